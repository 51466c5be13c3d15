"""The arrays of a checkpoint, read without believing what the file says of itself."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from framework.core.files import ours

_HEADER = 10_000  # bytes, as in NumPy


class Arrays:
    """The arrays of an `.npz` without compression, by name.

    Example:
        >>> with Arrays(Path("runs/a/checkpoints/step-00000100/arrays.npz")) as arrays:
        ...     arrays["00000"].shape
        (784, 128)

    Args:
        path: The file.
        shapes_only: Read no values: each array is one element, shown in the array's shape.

    Raises:
        OSError: It cannot be read, or is no file.
        ValueError: It holds something compressed, or claims to hold more than it does: nothing
            is allocated for a size that the file does not have.
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
        """Read one array."""
        member = self._zip.getinfo(f"{name}.npy")
        with self._zip.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"array {name} is of an unknown format")
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, fortran, dtype = read(file, max_header_size=_HEADER)
            if dtype.hasobject or dtype.fields:
                raise ValueError(f"array {name} is of {dtype}")
            size = math.prod(shape) * dtype.itemsize
            if min(shape, default=0) < 0 or size != member.file_size - file.tell():
                raise ValueError(f"array {name} is not of the size that it claims")
            if self._shapes_only:
                return np.broadcast_to(np.zeros((), dtype), shape)
            found = np.empty(math.prod(shape), dtype)
            _fill(found, file)
        return found.reshape(shape, order="F" if fortran else "C")

    def __enter__(self) -> Arrays:
        return self

    def __exit__(self, *_: Any) -> None:
        self._zip.close()
        self._file.close()

    def _check(self, size: int) -> None:
        members = self._zip.infolist()
        if len({member.filename for member in members}) < len(members):
            raise ValueError("an array is there twice")
        for member in members:
            if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
                raise ValueError("its arrays are compressed, which this framework never does")
            if member.file_size != member.compress_size:
                raise ValueError(f"{member.filename} is not of the size that it claims")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its arrays claim to be larger than the file")


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
