"""Encode Python values for a checkpoint, so that they are restored exactly.

A checkpoint can store JSON values, arrays, lists and dicts with text keys. `hold` encodes
everything else in terms of these, so that tuples, NumPy scalars and keys of other types are
preserved.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

_ROWS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
    "bytes": bytes,
    "complex": lambda parts: complex(*parts),
}


class NotHeld(TypeError):
    """A value that no checkpoint can store."""


def hold(value: Any) -> Any:
    """Return a value encoded in a form that a checkpoint can store.

    Example:
        >>> hold({1: (2, 3)})
        {'kind': 'dict', 'keys': [1], 'values': [{'kind': 'tuple', 'items': [2, 3]}]}
        >>> release(hold({1: (2, 3)}))
        {1: (2, 3)}

    Args:
        value: A number, text, bytes, bool or None, a NumPy array or scalar; or a list, tuple, set,
            deque or dict of these. Subclasses are not accepted, because they could not be restored
            fully. At the top level, also an object that changes in place: a variable, a Keras
            metric, a random generator of NumPy or Python. `into` restores it.

    Returns:
        The encoded value; `release` decodes it.

    Raises:
        NotHeld: The value has another type.
    """
    kind = type(value)
    if value is None or kind in (bool, int, float, str):
        return value
    if kind is np.ndarray or isinstance(value, np.generic):
        array = np.array(value)
        if array.dtype.kind not in "biufcSU" and not hasattr(ml_dtypes, array.dtype.name):
            raise NotHeld(f"an array of {array.dtype}")
        return array if kind is np.ndarray else {"kind": "scalar", "value": array}
    if kind is list:
        return [hold(each) for each in value]
    if kind is dict:
        keys, values = hold(list(value)), hold(list(value.values()))
        return {"kind": "dict", "keys": keys, "values": values}
    if kind is deque:
        return {"kind": "deque", "items": hold(list(value)), "most": value.maxlen}
    if kind.__name__ in _ROWS and kind.__module__ == "builtins":
        items = [value.real, value.imag] if kind is complex else list(value)
        return {"kind": kind.__name__, "items": hold(items)}
    inside = _inside(value)
    if inside is None:
        raise NotHeld(f"a {kind.__name__}")
    return {"kind": "inside", "value": inside}


def into(value: Any, held: Any) -> bool:
    """Restore an object that changes in place, or another made like it, from what `hold` returned.

    Returns:
        Whether both the object and `held` are of this kind.
    """
    if not isinstance(held, dict) or held["kind"] != "inside" or _inside(value) is None:
        return False
    inside = held["value"]
    if isinstance(value, np.random.Generator):
        value.bit_generator.state = release(inside)
    elif isinstance(value, random.Random):
        value.setstate(release(inside))
    elif hasattr(value, "assign"):
        value.assign(inside)
    else:
        for variable, each in zip(value.variables, inside, strict=True):
            variable.assign(each)
    return True


def _inside(value: Any) -> Any:
    """Return the encoded content of an object that changes in place; None for other objects."""
    if isinstance(value, np.random.Generator):
        return hold(value.bit_generator.state)
    if isinstance(value, random.Random):
        return hold(value.getstate())
    if hasattr(value, "assign") and hasattr(value, "numpy"):  # a variable
        return hold(np.asarray(value.numpy()))
    if hasattr(value, "update_state") and hasattr(value, "variables"):  # a metric
        return [hold(np.asarray(variable.numpy())) for variable in value.variables]
    return None


def release(held: Any) -> Any:
    """Return the value that `hold` encoded."""
    if isinstance(held, list):
        return [release(each) for each in held]
    if not isinstance(held, dict):
        return held
    kind = held["kind"]
    if kind == "scalar":
        return held["value"][()]
    if kind == "dict":
        return dict(zip(release(held["keys"]), release(held["values"]), strict=True))
    items = release(held["items"])
    return deque(items, held["most"]) if kind == "deque" else _ROWS[kind](items)


def same(left: Any, right: Any) -> bool:
    """Whether two encoded values are equal in type and in every bit; NaN equals NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, np.ndarray):
        alike = (left.dtype, left.shape) == (right.dtype, right.shape)
        return alike and left.tobytes() == right.tobytes()
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    return bool(left == right)
