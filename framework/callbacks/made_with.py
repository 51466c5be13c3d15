"""The state and the options that a callback was constructed with."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.callback import Callback
from framework.core.codec import same

KEPT_AS = "_made_with"
"""Attribute of a callback with its `Made`, so that copies of the callback have it too."""
_DEEPEST, _LARGE = 3, 2**20


@dataclass(frozen=True)
class Made:
    """The state and the options that a callback was constructed with.

    Attributes:
        state: Its initial state; empty if it has none before a run.
        options: Hash of its attributes, to distinguish several callbacks of one class.
    """

    state: Mapping[str, Any]
    options: str


def made_with(callback: Callback) -> Made:
    """Return the callback's state and options at the first call, which must precede any run.

    Example:
        >>> made_with(EarlyStopping(patience=2)).state
        {'best': None, 'waited': 0}
    """
    found: Made | None = vars(callback).get(KEPT_AS)
    if found is None:
        try:
            state = copy.deepcopy(dict(callback.state()))
        except Exception:  # `state` may need what a hook creates, and that hook resets it too
            state = {}
        found = Made(state, _digest(callback._options()))
        vars(callback)[KEPT_AS] = found
    return found


def restore(callback: Callback) -> None:
    """Reset a callback to its initial state if it has changed."""
    made = made_with(callback).state
    if made and not _same(callback.state(), made):
        callback.load_state(copy.deepcopy(dict(made)))


def _same(left: Any, right: Any) -> bool:
    try:
        return same(left, right)
    except Exception:  # values that do not belong in a state
        return False


def _digest(value: Any) -> str:
    """Return a hash of options that is the same in every process."""
    try:
        text = _described(value, 0)
    except Exception:  # an attribute that cannot be read; the callback's position identifies it
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


def _described(value: Any, depth: int) -> str:
    kind = type(value)
    if value is None or kind in (bool, int, float, complex, str, bytes):
        return repr(value)
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype != object:
        array = np.asarray(value)
        data = hashlib.sha256(array.tobytes()).hexdigest() if array.nbytes < _LARGE else ""
        return f"{array.dtype.name}{array.shape}{data}"
    if callable(value):
        return str(getattr(value, "__qualname__", kind.__qualname__))
    if depth == _DEEPEST:
        return kind.__qualname__
    if isinstance(value, Mapping):
        pairs = (
            f"{_described(k, depth + 1)}:{_described(v, depth + 1)}"
            for k, v in value.items()
            if k != KEPT_AS
        )
        return f"{kind.__qualname__}{{{','.join(sorted(pairs))}}}"
    if isinstance(value, (list, tuple, set, frozenset)):
        parts = [_described(each, depth + 1) for each in value]
        ordered = parts if isinstance(value, (list, tuple)) else sorted(parts)
        return f"{kind.__qualname__}[{','.join(ordered)}]"
    if hasattr(value, "__dict__"):
        return kind.__qualname__ + _described(vars(value), depth + 1)
    text = repr(value)  # a path, a date, a member of an enumeration
    return kind.__qualname__ if " at 0x" in text else text
