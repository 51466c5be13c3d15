"""What a callback was made with: the state that a new run begins with, and its options."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.core.codec import same

if TYPE_CHECKING:
    from framework.callback import Callback

KEPT_AS = "_made_with"
"""The attribute of a callback that holds it, so that it goes wherever the callback goes."""
_DEEPEST, _LARGE = 3, 2**20


@dataclass(frozen=True)
class Made:
    """What a callback was made with.

    Attributes:
        state: Its state then; empty if it has none before a run.
        options: A hash of its attributes, by which several of one class are told apart.
    """

    state: Mapping[str, Any]
    options: str


def made_with(callback: Callback) -> Made:
    """Return what a callback was made with: what it was when this was first asked.

    Example:
        >>> made_with(EarlyStopping(patience=2)).state
        {'best': None, 'waited': 0}

    Args:
        callback: Has not been in a run before the first call.
    """
    found: Made | None = vars(callback).get(KEPT_AS)
    if found is None:
        try:
            state = copy.deepcopy(dict(callback.state()))
        except Exception:  # it may need what the hooks of a run give it, and is made anew by them
            state = {}
        found = Made(state, _digest(callback._options()))
        vars(callback)[KEPT_AS] = found
    return found


def restore(callback: Callback) -> None:
    """Have a callback be as it was made, unless it still is."""
    made = made_with(callback).state
    if made and not _same(callback.state(), made):
        callback.load_state(copy.deepcopy(dict(made)))


def _same(left: Any, right: Any) -> bool:
    try:
        return same(left, right)
    except Exception:  # of other values than a state should hold
        return False


def _digest(value: Any) -> str:
    """Return a hash of options, which is the same in every process that makes them alike."""
    try:
        text = _described(value, 0)
    except Exception:  # somebody's attribute that cannot be looked at; the place tells then
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
