"""Flattens nested options to one level."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

from framework.text.escape import hidden

Scalar = bool | int | float | str


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Return a nested mapping as one level of numbers, truth values and texts, without None.

    Trackers and TensorBoard's HParams accept nothing else.

    Example:
        >>> flat({"seed": 0, "model": {"units": [64, 10], "name": None}})
        {'seed': 0, 'model.units': '[64, 10]'}

    Args:
        nested: The options; keys become texts.
        prefix: Put before every name.
    """
    found: dict[str, Scalar] = {}
    for key, value in nested.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        elif value is None:
            continue
        elif isinstance(value, bool):
            found[name] = value
        elif isinstance(value, numbers.Integral):
            found[name] = int(value)
        elif isinstance(value, numbers.Real) and math.isfinite(value):
            found[name] = float(value)
        else:
            found[name] = hidden(str(value))
    return found
