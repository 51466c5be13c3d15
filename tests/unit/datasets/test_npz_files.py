"""Image sets from files: read as stored, each fault named."""

from __future__ import annotations

import io
import pickle
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_server import arrays, npz, offline

from framework.datasets.named import load_dataset
from framework.datasets.npz import read_npz
from framework.errors import UserError

__all__ = ["offline"]


def test_a_file_in_a_directory_is_read_as_it_is_stored(tmp_path: Path, offline: None) -> None:
    wanted = arrays()
    np.savez_compressed(tmp_path / "mnist.npz", **wanted, extra=np.array([{}], object))
    for source in ("auto", "real"):
        found = load_dataset("mnist", dir=tmp_path, source=source)
        for key, array in wanted.items():
            assert np.array_equal(getattr(found, key), array)
            assert getattr(found, key).dtype == array.dtype
        assert (found.name, found.num_classes, found.source) == ("mnist", 10, "dir")


def test_a_set_of_any_name_counts_its_classes(tmp_path: Path) -> None:
    content = arrays()
    content["x_train"] = content["x_train"].astype("float64") / 255
    content["x_test"] = content["x_test"].astype("float64") / 255
    content["y_train"] = content["y_train"].astype("int64").reshape(-1, 1)
    content["y_test"][0] = 6
    np.savez(tmp_path / "flowers.npz", **content)
    found = load_dataset("flowers", dir=str(tmp_path))
    assert found.num_classes == 7
    assert found.x_train.dtype == np.float64
    assert found.y_train.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.y_train.dtype == np.int64


def changed(**changes: Any) -> Callable[[], bytes]:
    return lambda: npz(**{k: v for k, v in {**arrays(), **changes}.items() if v is not None})


def damaged() -> bytes:
    """One bit of an array is wrong; the directory of the archive is whole."""
    content = bytearray(npz(**arrays()))
    content[content.index(arrays()["x_test"].tobytes()) + 3] ^= 1
    return bytes(content)


def boastful() -> bytes:
    """The header of an array promises more than any memory holds."""
    stream = io.BytesIO(npz(**arrays()))
    huge = str((10**9, 9, 10**6)).rjust(len("(6, 5, 5), }") + 18)
    member = io.BytesIO()
    np.save(member, arrays()["x_train"])
    body = member.getvalue()
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {huge}, }}".ljust(117) + "\n"
    body = body[:8] + len(header).to_bytes(2, "little") + header.encode() + body[128:]
    rebuilt = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(rebuilt, "w") as new:
        for name in old.namelist():
            new.writestr(name, body if name == "x_train.npy" else old.read(name))
    return rebuilt.getvalue()


def gaps(value: float, dtype: str) -> Callable[[], bytes]:
    def make() -> bytes:
        content = arrays()
        content["x_train"] = content["x_train"].astype(dtype)
        content["x_test"] = content["x_test"].astype(dtype)
        content["x_train"][2, 1, 1] = content["x_train"][4, 0, 0] = value
        return npz(**content)

    return make


Y = np.arange(6) % 3
# What the file holds, and what the message must say beside the file's name.
FAULTS: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "empty file": (lambda: b"", ["is empty"]),
    "no npz": (lambda: b"a,b\n1,2\n" * 99, ["cannot be read", "np.savez"]),
    "a pickle": (lambda: pickle.dumps({"x_train": 1}), ["cannot be read"]),
    "truncated": (lambda: npz(**arrays())[:-400], ["cannot be read"]),
    "damaged": (damaged, ["x_test in flowers.npz cannot be read", "CRC"]),
    "header out of proportion": (boastful, ["its header states 9,000,000,000,000,128 bytes"]),
    "no arrays": (lambda: b"PK\x05\x06" + bytes(18), ["has no x_train", "no arrays"]),
    "missing key": (
        lambda: npz(**{("labels" if k == "y_test" else k): v for k, v in arrays().items()}),
        ["has no y_test", "labels, x_test, x_train, y_train"],
    ),
    "Python objects": (
        changed(x_train=np.array([[[object()]]] * 6, object)),
        ["x_train holds Python objects", "never loaded"],
    ),
    "words": (changed(x_train=np.full((6, 5, 5), "a")), ["x_train holds <U1"]),
    "rows differ": (changed(y_train=Y[:5]), ["x_train has 6 rows and y_train has 5"]),
    "rows of the test split differ": (changed(y_test=Y), ["x_test has 4 rows and y_test has 6"]),
    "empty split": (
        changed(x_test=np.zeros((0, 5, 5), "uint8"), y_test=Y[:0]),
        ["x_test is empty"],
    ),
    "no labels": (changed(y_test=Y[:0]), ["y_test is empty"]),
    "table": (changed(x_train=np.zeros((6, 7))), ["x_train has shape (6, 7)", "height"]),
    "one number": (changed(x_train=np.float32(3)), ["x_train has shape ()"]),
    "shapes differ": (changed(x_test=np.zeros((4, 5, 6), "uint8")), ["(5, 5)", "(5, 6)"]),
    "types differ": (changed(x_test=np.zeros((4, 5, 5), "float32")), ["uint8", "float32"]),
    "one-hot labels": (changed(y_train=np.eye(6)), ["y_train has shape (6, 6)", "argmax(axis=1)"]),
    "labels of three dimensions": (changed(y_train=Y.reshape(6, 1, 1)), ["shape (6, 1, 1)"]),
    "fractional labels": (changed(y_test=Y[:4] / 2), ["y_test holds float64, not whole numbers"]),
    "negative label": (changed(y_train=Y - 1), ["y_train is -1 in row 0"]),
    "NaN": (gaps(np.nan, "float32"), ["x_train has NaN or infinity in 2 of 6 rows", "row 2"]),
    "infinity": (gaps(np.inf, "float16"), ["in 2 of 6 rows", "first in row 2"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_file_is_named_with_its_fault(name: str, tmp_path: Path) -> None:
    make, wanted = FAULTS[name]
    path = tmp_path / "flowers.npz"
    path.write_bytes(make())
    with pytest.raises(UserError) as caught:
        load_dataset("flowers", dir=tmp_path)
    assert str(path) in str(caught.value.where)
    for text in wanted:
        assert text in str(caught.value)
    assert caught.value.fix


def test_a_pickle_inside_is_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    (tmp_path / "flowers.npz").write_bytes(npz(**arrays() | {"x_train": np.array([Bomb()])}))
    with pytest.raises(UserError, match="Python objects"):
        load_dataset("flowers", dir=tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_gaps_are_found_across_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framework.core.not_finite._SCAN", 50)  # two images of 5 x 5 at once
    x = np.zeros((9, 5, 5), "float32")
    x[[3, 4, 8], 0, 0] = [np.nan, -np.inf, np.nan]
    np.savez(tmp_path / "a.npz", **arrays() | {"x_train": x, "y_train": np.zeros(9, int)})
    wanted = "x_train has NaN or infinity in 3 of 9 rows, first in row 3"
    with pytest.raises(UserError, match=wanted):
        # Only once: x_test is whole numbers, but that is complained of later.
        read_npz(tmp_path / "a.npz")


def test_a_label_beyond_the_classes_of_a_known_set_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", **arrays() | {"y_test": np.array([0, 10, 3, 2])})
    with pytest.raises(UserError, match="y_test has a label 10, but mnist has 10 classes"):
        load_dataset("mnist", dir=tmp_path)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "flowers.npz", **arrays())
    for name, dir, wanted in (
        ("flower", tmp_path, ["flower.npz", "Did you mean 'flowers'?"]),
        ("mnist", tmp_path / "nope", [str(tmp_path / "nope" / "mnist.npz"), "not a directory"]),
        ("mnist", tmp_path / "flowers.npz", ["not a directory"]),
    ):
        with pytest.raises(UserError) as caught:
            load_dataset(name, dir=dir)
        assert caught.value.where == "data.dir"
        for text in wanted:
            assert text in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"Put mnist\.npz there"):
        load_dataset("mnist", dir=tmp_path / "empty")
    with pytest.raises(UserError, match="dir is empty"):
        load_dataset("mnist", dir="")
    (tmp_path / "mnist.npz").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        load_dataset("mnist", dir=tmp_path)


def test_reading_holds_each_array_once(tmp_path: Path) -> None:
    content = arrays(rows=(4000, 1000), shape=(32, 32, 3))
    np.savez(tmp_path / "flowers.npz", **content)
    size = sum(array.nbytes for array in content.values())
    del content
    tracemalloc.start()
    try:
        found = load_dataset("flowers", dir=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.x_train.nbytes + found.x_test.nbytes <= size
    assert peak < 1.1 * size
