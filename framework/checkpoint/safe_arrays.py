"""Reads the arrays of a checkpoint without trusting the sizes that the file states."""

from __future__ import annotations

import math
import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

from framework.core.safe_files import ours

_HEADER = 10_000  # bytes, as in NumPy
_LARGE = 2**26  # bytes of an array that stays in the file until it is used


class Arrays:
    """Read the arrays of an uncompressed `.npz` file by name.

    Example:
        >>> with Arrays(Path("runs/a/checkpoints/step-00000100/arrays.npz")) as arrays:
        ...     arrays["00000"].shape
        (784, 128)

    Args:
        path: The file.
        shapes_only: Do not read values: each array is one zero, broadcast to the array's shape.

    Raises:
        OSError: If the path cannot be read, or is not a file.
        ValueError: If a member is compressed, or is larger than the file: nothing is allocated
            for a size that the file does not have.
    """

    def __init__(self, path: Path, *, shapes_only: bool = False) -> None:
        self._shapes_only = shapes_only
        self._file: IO[bytes] = open(path, "rb", opener=ours)  # noqa: SIM115 - closed by __exit__
        try:
            self._zip = zipfile.ZipFile(self._file)
            self._check(os.fstat(self._file.fileno()).st_size)
        except BaseException:
            self._file.close()
            raise

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        """Read one array; a large one is a map of the file, so that it is not held twice."""
        member = self._zip.getinfo(f"{name}.npy")
        with self._zip.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"array {name} has an unknown format")
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(file, max_header_size=_HEADER)
            if dtype.hasobject or dtype.fields:
                raise ValueError(f"array {name} has the dtype {dtype}")
            size = math.prod(shape) * dtype.itemsize
            if min(shape, default=0) < 0 or size != member.file_size - file.tell():
                raise ValueError(f"array {name} does not have the size that it states")
            if self._shapes_only:
                return np.broadcast_to(np.zeros((), dtype), shape)
            order: Literal["F", "C"] = "F" if fortran else "C"
            if size >= _LARGE:
                start = self._start(member) + file.tell()
                return np.memmap(self._file, dtype, "c", start, shape, order)
            found = np.empty(math.prod(shape), dtype)
            _fill(found, file)
        return found.reshape(shape, order=order)

    def _start(self, member: zipfile.ZipInfo) -> int:
        """Return where a member's content begins in the file, after its own header."""
        self._file.seek(member.header_offset)
        name, extra = struct.unpack("<26x2H", self._file.read(30))
        return member.header_offset + 30 + int(name) + int(extra)

    def __enter__(self) -> Arrays:
        return self

    def __exit__(self, *_: Any) -> None:
        self._zip.close()
        self._file.close()

    def _check(self, size: int) -> None:
        members = self._zip.infolist()
        if len({member.filename for member in members}) < len(members):
            raise ValueError("two arrays have the same name")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ValueError("its arrays are compressed: this framework never writes such")
            if member.file_size != member.compress_size:
                raise ValueError(f"{member.filename} does not have the size that it states")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its arrays are larger than the file")


def _fill(array: np.ndarray[Any, Any], file: IO[bytes]) -> None:
    if not array.nbytes:
        return
    room: Any = memoryview(array.view(np.uint8))  # type: ignore[arg-type]
    done = 0
    while done < len(room):
        piece = file.read(min(2**20, len(room) - done))
        if not piece:
            raise ValueError("an array ends too early")
        room[done : done + len(piece)] = piece
        done += len(piece)
