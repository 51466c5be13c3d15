"""Reads what a run of Weights & Biases has written on this machine."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_START, _BLOCK, _HEAD = b":W&B", 32768, struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def history(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the steps of a `.wandb` file and the values logged at each, up to what is incomplete.

    Example:
        >>> next(history(Path("runs/a/wandb/offline-run-…/run-….wandb")))
        (50, {'train/loss': 2.5, '_step': 50, …})

    Args:
        path: The file.
    """
    from wandb.proto import wandb_internal_pb2

    for record in _records(path.read_bytes()):
        row = wandb_internal_pb2.Record.FromString(record).history
        values: dict[str, Any] = {}
        for item in row.item:
            name, *parts = item.nested_key or [item.key]
            value = json.loads(item.value_json)
            if parts:  # of an image or a histogram
                values.setdefault(name, {})["/".join(parts)] = value
            else:
                values[name] = value
        if values:
            yield int(row.step.num), values


def last_values(path: Path) -> dict[str, tuple[int, float]]:
    """Return the last step of each name in a `.wandb` file, and its value (0 if not a number)."""
    found: dict[str, tuple[int, float]] = {}
    for step, values in history(path):
        for name, value in values.items():
            found[name] = step, float(value) if isinstance(value, (int, float)) else 0.0
    return found


def _records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format: chunks in blocks of 32 KB."""
    if not data.startswith(_START):
        return
    at, record = len(_START) + 3, b""
    while at + _HEAD.size <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < _HEAD.size:
            at += left
            continue
        _, size, kind = _HEAD.unpack_from(data, at)
        chunk = data[at + _HEAD.size : at + _HEAD.size + size]
        if len(chunk) < size or kind not in (_FULL, _FIRST, _MIDDLE, _LAST):
            return
        at += _HEAD.size + size
        record = chunk if kind in (_FULL, _FIRST) else record + chunk
        if kind in (_FULL, _LAST):
            yield record
