"""Reads and checks images and labels from a `.npz` file."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path

import numpy as np

from framework.core.not_finite import refuse_nan
from framework.errors import UserError

KEYS = ("x_train", "y_train", "x_test", "y_test")
SPLITS = ("train", "test")


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Read the two splits of an image set in their stored form, labels of shape (N,).

    The file has x_train, y_train, x_test and y_test: images of shape (N, H, W) or (N, H, W, C),
    labels whole numbers of shape (N,) or (N, 1). Python objects in it are an error; they are never
    unpickled.

    Example:
        >>> x_train, y_train, x_test, y_test = read_npz(Path("data/flowers.npz"))
    """
    arrays = _read(path)
    for split in SPLITS:
        x, y = f"x_{split}", f"y_{split}"
        _check_images(path, x, arrays[x])
        arrays[y] = _check_labels(path, y, arrays[y])
        if len(arrays[x]) != len(arrays[y]):
            raise UserError(
                f"{x} has {len(arrays[x]):,} rows and {y} has {len(arrays[y]):,}",
                where=str(path),
                fix="Give every image one label.",
            )
    train, test = arrays["x_train"], arrays["x_test"]
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise UserError(
            f"images differ: x_train has {train.dtype} of {train.shape[1:]}, "
            f"x_test {test.dtype} of {test.shape[1:]}",
            where=str(path),
            fix="Store both splits with one shape and one type.",
        )
    return train, arrays["y_train"], test, arrays["y_test"]


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        if path.exists() and not path.is_file():
            what, fix = "it is not a file", "Give a .npz file written by np.savez."
            raise UserError(f"{path.name} cannot be read: {what}", where=str(path), fix=fix)
        with zipfile.ZipFile(path) as archive:
            there = {n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")}
            missing = [key for key in KEYS if key not in there]
            if missing:
                raise UserError(
                    f"{path.name} has no {' and no '.join(missing)}",
                    where=str(path),
                    fix=f"It has {', '.join(sorted(there)) or 'no arrays'}; "
                    f"it needs {', '.join(KEYS)}.",
                )
            for key in KEYS:
                _check_size(path, archive, key)
        # Each array is read from the archive directly into its own memory.
        with np.load(path, allow_pickle=False) as file:
            return {key: _member(path, file, key) for key in KEYS}
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise _unreadable(path, "", error) from None


def _check_size(path: Path, archive: zipfile.ZipFile, key: str) -> None:
    """Check an array's header against the file size, before memory is allocated."""
    entry = archive.getinfo(f"{key}.npy")
    if entry.file_size > _LARGE and entry.file_size > _MOST_RATIO * max(entry.compress_size, 1):
        raise UserError(
            f"{key} would grow from {entry.compress_size:,} bytes to {entry.file_size:,}",
            where=f"{path}, {key}",
            fix="If you trust the file, store it without compression, with np.savez.",
        )
    try:
        with archive.open(entry) as stream:
            version = np.lib.format.read_magic(stream)
            read = _HEADERS.get(version, np.lib.format.read_array_header_2_0)
            shape, _, dtype = read(stream)
            needed = math.prod(shape) * dtype.itemsize + stream.tell()
    except (ValueError, EOFError, OSError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return  # reported when the array is read
    except (RecursionError, MemoryError, SyntaxError, TypeError) as error:
        raise _unreadable(path, key, ValueError(f"{type(error).__name__} in its header")) from None
    if needed != entry.file_size and not dtype.hasobject:
        what = f"its header states {needed:,} bytes, but it has {entry.file_size:,}"
        raise _unreadable(path, key, ValueError(what))


_LARGE, _MOST_RATIO = 2**26, 200
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0}


def _member(path: Path, file: np.lib.npyio.NpzFile, key: str) -> np.ndarray:
    try:
        array = file[key]
    except MemoryError:
        raise UserError(
            f"{key} does not fit into memory",
            where=f"{path}, {key}",
            fix="Store fewer or smaller images, as uint8. If the file is damaged, create it again.",
        ) from None
    except (
        ValueError, EOFError, OSError, RuntimeError, SyntaxError, TypeError,
        zipfile.BadZipFile, zlib.error,
    ) as error:  # fmt: skip
        if "Object arrays" in str(error):
            raise UserError(
                f"{key} holds Python objects, which are never loaded from a file",
                where=f"{path}, {key}",
                fix="Store plain numbers: np.savez(file, x_train=images.astype('uint8'), …).",
            ) from None
        raise _unreadable(path, key, error) from None
    if not isinstance(array, np.ndarray):
        raise _unreadable(path, key, TypeError("it is not an array in NumPy's format"))
    return array


def _unreadable(path: Path, key: str, error: Exception) -> UserError:
    try:
        size = path.stat().st_size
    except OSError:
        size = -1
    what = f"{key + ' in ' if key else ''}{path.name} cannot be read: {str(error)[:200]}"
    if size == 0:
        what = f"{path.name} is empty"
    return UserError(
        what,
        where=f"{path}, {key}" if key else str(path),
        fix="Give a complete .npz file written by np.savez: copy or create it again.",
    )


def _check_images(path: Path, key: str, array: np.ndarray) -> None:
    where, what = f"{path}, {key}", ""
    if array.dtype.kind not in "buif":
        what, fix = f"holds {array.dtype}, not numbers", "Store pixels, as uint8."
    elif array.ndim not in (3, 4):
        what = f"has shape {array.shape}"
        fix = "Give images of shape (N, height, width) or (N, height, width, channels)."
    elif not array.size:
        what = f"is empty: its shape is {array.shape}"
        fix = "Put at least one image into each split."
    if what:
        raise UserError(f"{key} {what}", where=where, fix=fix)
    refuse_nan(array, key, where)


def _check_labels(path: Path, key: str, array: np.ndarray) -> np.ndarray:
    where, fix = f"{path}, {key}", "Give one whole number from 0 on for each image: shape (N,)."
    if array.ndim == 2 and array.shape[1] == 1:
        array = array.reshape(-1)
    if array.ndim != 1:
        one_hot = " For one-hot labels: y.argmax(axis=1)." if array.ndim == 2 else ""
        raise UserError(f"{key} has shape {array.shape}", where=where, fix=fix + one_hot)
    if not array.size:
        raise UserError(f"{key} is empty", where=where, fix=fix)
    if array.dtype.kind not in "ui":
        raise UserError(f"{key} holds {array.dtype}, not whole numbers", where=where, fix=fix)
    if array.min() < 0:
        row = int(np.argmax(array < 0))
        raise UserError(f"{key} is {array[row]} in row {row:,}", where=where, fix=fix)
    return array
