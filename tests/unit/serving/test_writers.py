"""Predictions as files: whole, in parts, and the same in every kind of file."""

from __future__ import annotations

import csv
import zipfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from framework import UserError
from framework.serving.writers import KINDS, writing_predictions

PARTS = [np.array([[0.75, 0.25], [0.5, 0.5]], "f4"), np.array([[0.125, 0.875]], "f4")]
NAMES = ["cat", "dog"]


def write(path: Path, parts: list[Any], names: Any = NAMES, **rows: Any) -> Path:
    with writing_predictions(path, names) as writer:
        for part in parts:
            writer.add("", part, **rows)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "something is left"
    return path


def test_an_npz_file_is_what_numpy_reads_whatever_the_parts(tmp_path: Path) -> None:
    with np.load(write(tmp_path / "a.npz", PARTS)) as found:
        np.testing.assert_array_equal(found["predictions"], np.concatenate(PARTS))
        assert found["class_names"].tolist() == NAMES
    nest = [{"mean": PARTS[0], "deep": (np.arange(2), np.zeros((2, 3, 1), ml_dtypes.bfloat16))}]
    with np.load(write(tmp_path / "a.npz", nest * 2, ())) as found:
        assert set(found.files) == {"mean", "deep/0", "deep/1"}
        assert found["deep/0"].tolist() == [0, 1, 0, 1]
        assert (found["deep/1"].shape, found["deep/1"].dtype) == ((4, 3, 1), np.float32)


def test_texts_keep_their_length_whatever_came_first(tmp_path: Path) -> None:
    parts = [{"word": np.array(words, object)} for words in ([b"a"], [b"longer"])]
    with np.load(write(tmp_path / "a.npz", parts, ()), allow_pickle=False) as found:
        assert found["word"].tolist() == [b"a", b"longer"]


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".csv":
        with open(path, newline="") as file:
            return list(csv.DictReader(file))
    parquet = pytest.importorskip("pyarrow.parquet", reason="needs the extra table")
    return list(parquet.read_table(path).to_pylist())


@pytest.mark.parametrize("kind", [".csv", ".parquet"])
def test_a_table_has_a_class_and_a_number_for_each(kind: str, tmp_path: Path) -> None:
    if kind == ".parquet":
        pytest.importorskip("pyarrow", reason="needs the extra table")
    first, _, last = rows_of(write(tmp_path / f"a{kind}", PARTS))
    assert list(first) == ["row", "class", *NAMES]
    assert (str(first["row"]), first["class"], float(first["dog"])) == ("0", "cat", 0.25)
    assert (str(last["row"]), last["class"], float(last["dog"])) == ("2", "dog", 0.875)
    named = rows_of(write(tmp_path / f"a{kind}", PARTS[1:], rows=["x.png"]))
    assert named[0]["row"] == "x.png"
    nest = [{"size": np.array([3, 4]), "at": np.array([[1.5, 2.5], [3.5, 4.5]])}]
    assert {k: float(v) for k, v in rows_of(write(tmp_path / f"a{kind}", nest, ()))[1].items()} == {
        "row": 1.0, "size": 4.0, "at/0": 3.5, "at/1": 4.5,
    }  # fmt: skip


def interrupted(path: Path) -> None:
    with writing_predictions(path, NAMES) as writer:
        writer.add("", PARTS[0])
        raise KeyboardInterrupt


def test_no_half_of_a_file_replaces_a_whole_one(tmp_path: Path) -> None:
    for kind in KINDS:
        if kind == ".parquet":
            pytest.importorskip("pyarrow", reason="needs the extra table")
        path = write(tmp_path / f"a{kind}", PARTS)
        before = path.read_bytes()
        with pytest.raises(KeyboardInterrupt):
            interrupted(path)
        assert path.read_bytes() == before
        path.unlink()
    assert not list(tmp_path.iterdir())


def test_images_go_to_npz_only_and_another_ending_is_refused_with_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"\.npz"):
        write(tmp_path / "a.csv", [np.zeros((2, 4, 4))])
    for name in ("a.txt", "answers"):
        with pytest.raises(UserError, match="cannot go to") as refused:
            write(tmp_path / name, PARTS)
        assert all(kind in refused.value.fix for kind in KINDS)
    with pytest.raises(UserError, match="no such directory"):
        write(tmp_path / "nowhere/a.npz", PARTS)


def test_more_than_memory_goes_through_the_disk(tmp_path: Path) -> None:
    part = np.zeros((1000, 100), "f4")
    with writing_predictions(tmp_path / "a.npz", ()) as writer:
        for _ in range(5):
            writer.add("", part)
            (aside,) = tmp_path.glob(".a.npz-*")
        assert sum(p.stat().st_size for p in aside.iterdir()) > 4 * part.nbytes
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert archive.getinfo("predictions.npy").file_size > 5 * part.nbytes
