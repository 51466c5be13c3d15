"""Tracks which attributes of an object change, and saves them as its state."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from framework.core.codec import NotHeld, hold, into, release, same

_log = logging.getLogger("framework")
_KEPT_AS = "_attributes_of_runs"


class Attributes:
    """Save the attributes of an object, except some, that have changed since it was constructed.

    An unchanged attribute is not saved: the constructor sets it again, so a new value of an option
    takes effect when a run resumes. A changed attribute that cannot be saved logs a warning.

    Example:
        >>> attributes = Attributes(stopping)
        >>> stopping.wait += 1
        >>> attributes.state()
        {'wait': 1}

    Attributes:
        made: The encoded values after construction, or as set from outside between runs.
    """

    def __init__(self, owner: Any, apart: Collection[str] = ()) -> None:
        self._owner, self._apart = owner, {*apart, _KEPT_AS}
        self._objects = {name: (value, _contents(value)) for name, value in vars(owner).items()}
        self._changed: set[str] = set()
        self._warned: set[str] = set()
        self.made = self._at_start = self._held()
        self._left = dict(self.made)

    @classmethod
    def of(cls, owner: Any, apart: Collection[str] = ()) -> Attributes:
        """Return the tracker of `owner`, which an earlier run may have created already."""
        found: Attributes | None = vars(owner).get(_KEPT_AS)
        if found is None or found._owner is not owner:  # a copy
            found = vars(owner)[_KEPT_AS] = cls(owner, apart)
        return found

    def leave(self) -> None:
        """Record the values at the end of a run; a later difference was set from outside."""
        self._left = self._held()

    def take(self) -> None:
        """Treat values that were set since the last run as values set at construction."""
        for name, value in self._held().items():
            if name not in self._left or not same(self._left[name], value):
                self.made[name] = value

    def begin(self) -> None:
        """Record the values at the start of a run; a resumed run starts with the same ones."""
        self._at_start = self._held()

    def state(self) -> dict[str, Any]:
        """Return the attributes that differ now, or differed in any earlier call."""
        now = self._held()
        for name, value in now.items():
            # A resumed run repeats both the construction and the start of the run.
            if not all(
                name in past and same(past[name], value) for past in (self.made, self._at_start)
            ):
                self._changed.add(name)
        return {name: now[name] for name in sorted(self._changed) if name in now}

    def rewind(self) -> None:
        """Undo the changes of earlier runs."""
        self.take()
        now = self._held()
        for name, value in self.made.items():
            if name in now and not same(now[name], value):
                self._set(name, value)
        self._changed = set()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        for name, value in state.items():
            self._set(name, value)
        self._changed |= state.keys()

    def _held(self) -> dict[str, Any]:
        held = {}
        for name, value in vars(self._owner).items():
            if name in self._apart:
                continue
            try:
                # `_set` refills a defaultdict or a Counter, so its contents are enough.
                held[name] = hold(dict(value) if isinstance(value, dict) else value)
            except NotHeld as error:
                self._warn(name, value, error)
        return held

    def _set(self, name: str, held: Any) -> None:
        present = getattr(self._owner, name, None)
        if into(present, held):
            return
        value = release(held)
        if isinstance(value, dict) and isinstance(present, dict) and type(present) is not dict:
            present.clear()
            present.update(value)
        else:
            setattr(self._owner, name, value)

    def _warn(self, name: str, value: Any, error: NotHeld) -> None:
        of = type(self._owner)
        former, contents = self._objects.get(name, (None, {}))
        constant = callable(value) or (value is former and same(contents, _contents(value)))
        if of.__module__.startswith("keras.") or name in self._warned:
            return  # Keras's callbacks recreate these, such as the writer of a CSVLogger
        if constant and not isinstance(value, Collection):
            return
        self._warned.add(name)
        _log.warning(
            "%s.%s holds %s, which a checkpoint cannot store: a resumed run starts without it",
            of.__name__, name, error,
        )  # fmt: skip


def _contents(value: Any) -> dict[str, Any]:
    """Return the attributes of an object that cannot be saved, to detect changes in it."""
    found = {}
    for name, each in getattr(value, "__dict__", {}).items():
        with suppress(NotHeld):
            found[name] = hold(each)
    return found
