"""Whether two options are the same, as a run that is continued asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def same(one: Any, other: Any, *, typed: bool = False) -> bool:
    """Tell whether two values of an option mean the same, nested ones included.

    Not a number is the same as itself, a list the same as a tuple of the same items.

    Example:
        >>> same([float("nan"), 1], (float("nan"), 1.0))
        True
        >>> same(1, 1.0, typed=True)
        False

    Args:
        one: A plain value: a number, a text, None, or a list or dict of such.
        other: What to compare it with.
        typed: A whole number is not the same as a fraction, as where 1 is one batch and 1.0 all.
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
