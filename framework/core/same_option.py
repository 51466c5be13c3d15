"""Compare option values when a run resumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def same(one: Any, other: Any, *, typed: bool = False) -> bool:
    """Whether two plain values of an option mean the same, including nested values.

    NaN equals itself, and a list equals a tuple with the same items. If `typed`, a whole number
    differs from a fraction, for options where 1 is one batch and 1.0 all.

    Example:
        >>> same([float("nan"), 1], (float("nan"), 1.0))
        True
        >>> same(1, 1.0, typed=True)
        False
    """
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(
            same(one[key], other[key], typed=typed) for key in one
        )
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(
            same(a, b, typed=typed) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, float) and isinstance(other, float) and one != one:
        return other != other
    if typed and one and isinstance(one, float) != isinstance(other, float):
        return False
    return bool(one == other)
