"""Writes a state as files: arrays in one `.npz` without pickle, everything else as JSON."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import ml_dtypes
import numpy as np

from framework.checkpoint.safe_arrays import Arrays
from framework.core.safe_files import ours, read_bytes
from framework.core.state import State
from framework.errors import UserError

_MARK = "$array"  # stands for an array in the JSON
ARRAYS, TREE = "arrays.npz", "state.json"
_MOST = 2**26  # bytes of state.json


def write_tree(directory: Path, state: State) -> dict[str, str]:
    """Write a state into an existing directory, and sync it to the disk.

    Returns:
        The SHA-256 of each file by name, computed from the written bytes, not from the disk.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    tree = _split(state, arrays)
    sums = {}
    with _Hashed(directory / ARRAYS) as file:
        plain: dict[str, Any] = {name: _plain(array) for name, array in arrays.items()}
        np.savez(file, **plain)
        sums[ARRAYS] = file.sha256()
    with _Hashed(directory / TREE) as file:
        file.write(json.dumps(tree, indent=1).encode())
        sums[TREE] = file.sha256()
    return sums


def read_tree(directory: Path, *, shapes_only: bool = False) -> State:
    """Read a state, or only its shapes, from files that the caller has verified."""
    tree = json.loads(read_bytes(directory / TREE, _MOST))
    if not isinstance(tree, dict):
        raise ValueError(f"{TREE} does not hold a state")
    with Arrays(directory / ARRAYS, shapes_only=shapes_only) as arrays:
        state: State = _join(tree, arrays)
    return state


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb", opener=ours) as file:
        while piece := file.read(2**20):
            found.update(piece)
    return found.hexdigest()


def sync(path: Path) -> None:
    """Sync a file, or the entries of a directory, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class _Hashed:
    """An append-only file that is hashed while it is written, and synced when it is closed."""

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = open(path, "wb", opener=ours)  # noqa: SIM115 - closed by __exit__
        self._sum = hashlib.sha256()

    def write(self, data: Any) -> int:
        self._sum.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def sha256(self) -> str:
        return self._sum.hexdigest()

    def __enter__(self) -> _Hashed:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    # zipfile calls these to detect that the file cannot seek.
    def tell(self) -> int:
        raise OSError("only appended to")

    def read(self, *_: Any) -> bytes:
        raise OSError("only appended to")


def _split(tree: Any, arrays: dict[str, np.ndarray[Any, Any]], where: str = "") -> Any:
    if isinstance(tree, Mapping):
        for key in tree:
            if not isinstance(key, str) or key == _MARK:
                raise _no_state(f"the key {key!r}", where, "Use text as the keys of dicts.")
        return {key: _split(value, arrays, f"{where}/{key}") for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_split(value, arrays, f"{where}/{i}") for i, value in enumerate(tree)]
    if isinstance(tree, (np.ndarray, np.generic)):
        name, array = f"{len(arrays):05d}", np.asarray(tree)
        if array.dtype.kind not in "biufcSU" and not hasattr(ml_dtypes, array.dtype.name):
            raise _no_state(f"an array of {array.dtype}", where, "Give numbers or text.")
        arrays[name] = array
        return {_MARK: name, "dtype": array.dtype.name}
    if tree is None or isinstance(tree, (str, bool, int, float)):
        return tree
    fix = "Give numbers, text, None, NumPy arrays, and lists and dicts of these."
    raise _no_state(f"a {type(tree).__name__}", where, fix)


def _no_state(what: str, where: str, fix: str) -> UserError:
    return UserError(f"a checkpoint cannot store {what} in a state", where=where, fix=fix)


def _join(tree: Any, arrays: Any) -> Any:
    if isinstance(tree, dict):
        if _MARK in tree:
            array, name = arrays[tree[_MARK]], tree["dtype"]
            own = getattr(ml_dtypes, name, None)
            if own is None and array.dtype.name != name:
                raise ValueError(f"an array has the dtype {array.dtype} instead of {name}")
            return array if own is None else array.view(np.dtype(own))
        return {key: _join(value, arrays) for key, value in tree.items()}
    return [_join(value, arrays) for value in tree] if isinstance(tree, list) else tree


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # NumPy's format does not support bfloat16 and similar dtypes: store the bits.
    return array if array.dtype.kind in "biufcSU" else array.view(f"u{array.itemsize}")
