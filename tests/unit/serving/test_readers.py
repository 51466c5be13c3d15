"""Files of raw inputs: what is read from each kind, and how what does not fit is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from framework import UserError
from framework.serving.answers import Answers
from framework.serving.readers import read_inputs
from framework.sources.inputs import Inputs

X = np.random.default_rng(0).integers(0, 256, (700, 4, 2), np.uint8)


def taking(raw: Any, used: Callable[[Any], Any] = lambda batch: batch[0]) -> Answers:
    inputs = Inputs(raw, None, (), lambda batch: batch)
    return Answers.of(lambda b: tf.cast(used(b), tf.float32), inputs, "Mine.predict_step")


IMAGES = taking((tf.TensorSpec([None, 4, 2], tf.uint8), tf.TensorSpec([None], tf.int64)))


def whole(file: Path, answers: Answers = IMAGES, **options: Any) -> dict[str, np.ndarray]:
    parts = [given for given, _ in read_inputs(str(file), answers, **options)]
    return {name: np.concatenate([part[name] for part in parts]) for name in answers.inputs}


def test_an_npz_file_is_read_in_parts_by_name_or_as_its_only_array(tmp_path: Path) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", anything=X)
        np.testing.assert_array_equal(whole(tmp_path / "a.npz")["inputs"], X)
        assert len(list(read_inputs(str(tmp_path / "a.npz"), IMAGES))) == 2
    np.savez(tmp_path / "a.npz", x_train=X[:3], x_test=X)
    assert len(whole(tmp_path / "a.npz", array="x_test")["inputs"]) == 700
    with pytest.raises(UserError, match="has no inputs") as refused:
        whole(tmp_path / "a.npz")
    assert "x_train, x_test" in refused.value.fix
    with pytest.raises(UserError, match="has no array") as refused:
        whole(tmp_path / "a.npz", array="x_tset")
    assert "x_test" in refused.value.fix


def test_a_table_is_read_by_the_names_of_its_columns_or_in_order(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs the extra table")
    two = taking(
        {name: tf.TensorSpec([None], tf.float32) for name in ("age", "size")},
        lambda batch: batch["age"] + batch["size"],
    )
    (tmp_path / "a.csv").write_text("size,other,age\n1.5,x,30\n2.5,y,40\n")
    found = whole(tmp_path / "a.csv", two)
    assert (found["age"].tolist(), found["size"].tolist()) == ([30, 40], [1.5, 2.5])
    lines = ["abcdefgh"[i] for i in range(8)], *X[:3].reshape(3, 8).tolist()
    (tmp_path / "b.csv").write_text("\n".join(",".join(map(str, line)) for line in lines))
    np.testing.assert_array_equal(whole(tmp_path / "b.csv")["inputs"], X[:3])
    from pyarrow import csv, parquet

    parquet.write_table(csv.read_csv(tmp_path / "b.csv"), tmp_path / "b.parquet")
    np.testing.assert_array_equal(whole(tmp_path / "b.parquet")["inputs"], X[:3])


def images(folder: Path, *sizes: tuple[int, int]) -> list[np.ndarray]:
    made = []
    for number, size in enumerate(sizes):
        image = np.random.default_rng(number).integers(0, 256, (*size, 1), np.uint8)
        (folder / f"{number}.png").write_bytes(tf.io.encode_png(image).numpy())
        made.append(image[..., 0])
    return made


def test_a_folder_of_images_is_read_in_order_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    made = images(tmp_path / "deep", (4, 2), (4, 2))
    ((given, rows),) = read_inputs(str(tmp_path), IMAGES)
    np.testing.assert_array_equal(given["inputs"], made)
    assert rows == ["deep/0.png", "deep/1.png"]


def test_an_image_of_another_size_is_refused_unless_it_may_be_stretched(tmp_path: Path) -> None:
    images(tmp_path, (8, 4))
    with pytest.raises(UserError, match=r"0.png has 8 x 4 pixels, and the task takes 4 x 2"):
        whole(tmp_path)
    assert whole(tmp_path, resize=True)["inputs"].shape == (1, 4, 2)


def damaged(path: Path) -> None:
    np.savez(path, x=X)
    path.write_bytes(path.read_bytes()[:4000])


WRONG: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing.npz": (lambda path: None, "no such file"),
    "other.txt": (lambda path: path.write_text("1"), "not a file of inputs"),
    "cut.npz": (damaged, "cannot be read"),
    "objects.npz": (lambda p: np.savez(p, x=np.array([{}], object)), "Python objects"),
    "empty.npz": (lambda p: np.savez(p, x=X[:0]), "no rows"),
    "shape.npz": (lambda p: np.savez(p, x=X[:, :3]), "shape"),
    "floats.npz": (lambda p: np.savez(p, x=X / 255), "float64"),
    "short.csv": (lambda p: p.write_text("a,b\n1,2\n"), "2 numbers in a row"),
    "words.csv": (lambda p: p.write_text("a,b,c,d,e,f,g,h\n" + "red," * 7 + "red"), "is object"),
    "folder": (lambda p: p.mkdir(), "no images"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused_by_name(name: str, tmp_path: Path) -> None:
    if name.endswith(".csv"):
        pytest.importorskip("pyarrow", reason="needs the extra table")
    make, what = WRONG[name]
    make(tmp_path / name)
    with pytest.raises(UserError, match=what):
        whole(tmp_path / name)
