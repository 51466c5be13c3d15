"""Reads the records of an event file, and skips damaged parts."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from framework.core.safe_files import ours

_HEAD, _FOOT = 12, 4  # the length and its checksum; the checksum of the content
_FAR = 2**26


def read_records(path: Path) -> tuple[list[bytes], bool]:
    """Return the readable records of an event file.

    Args:
        path: The file.

    Returns:
        The records, and whether the file is damaged. An incomplete last record, as a killed
        process leaves it, does not count as damage.

    Raises:
        OSError: If the path cannot be read, or is not a file.
    """
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader

    with open(path, "rb", opener=ours) as file:
        whole = file.read()
    records: list[bytes] = []
    if _believable(whole):  # the loader is fast, but trusts any length
        records = list(RawEventFileLoader(str(path)).Load())
    place = sum(_HEAD + len(record) + _FOOT for record in records)
    if place == len(whole):
        return records, False
    found = list(_found_after(whole, place))
    torn = not found and _is_torn(whole, place)
    return records + found, not torn


def _believable(whole: bytes) -> bool:
    """Return whether the lengths of all records add up to about the size of the file."""
    place = 0
    while place + _HEAD <= len(whole):
        place += _HEAD + int(struct.unpack_from("<Q", whole, place)[0]) + _FOOT
    return place - len(whole) < _FAR


def _is_torn(whole: bytes, place: int) -> bool:
    if place + _HEAD > len(whole):
        return True
    length, checksum = struct.unpack_from("<QI", whole, place)
    beyond = place + _HEAD + int(length) + _FOOT > len(whole)
    return beyond and _checksum(whole[place : place + 8]) == checksum


def _found_after(whole: bytes, place: int) -> Iterator[bytes]:
    """Yield complete records after a place, recognized by their two checksums."""
    while place + _HEAD + _FOOT <= len(whole):
        length, checksum = struct.unpack_from("<QI", whole, place)
        end = place + _HEAD + length + _FOOT
        if end <= len(whole) and _checksum(whole[place : place + 8]) == checksum:
            content = whole[place + _HEAD : end - _FOOT]
            if _checksum(content) == struct.unpack_from("<I", whole, end - _FOOT)[0]:
                yield content
            place = end
            continue
        # Records are below 4 GB, so the upper four bytes of a length are zeros: search for these.
        zeros = whole.find(b"\0\0\0\0", place + 5)
        if zeros < 0:
            return
        place = zeros - 4


def _checksum(content: bytes) -> int:
    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    return int(masked_crc32c(content))
