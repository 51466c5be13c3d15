"""The attributes of an object that change, as a state."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any

from framework.core.codec import NotHeld, hold, into, release, same

_log = logging.getLogger("framework")
_KEPT_AS = "_attributes_of_runs"


class Attributes:
    """Keeps those attributes of an object that have changed since it was made.

    What has not changed is an option of its constructor, or is made again by it, so that another
    value given when a run goes on counts. One that changes but cannot be kept is warned about.

    Example:
        >>> attributes = Attributes(stopping)
        >>> stopping.wait += 1
        >>> attributes.state()
        {'wait': 1}

    Args:
        owner: The object.
        apart: Names of attributes that are not its own.

    Attributes:
        made: Those that it was made with, or was given by somebody since, held.
    """

    def __init__(self, owner: Any, apart: Collection[str] = ()) -> None:
        self._owner, self._apart = owner, {*apart, _KEPT_AS}
        self._objects = {name: (value, _contents(value)) for name, value in vars(owner).items()}
        self._changed: set[str] = set()
        self._warned: set[str] = set()
        self.made = self._begun = self._held()
        self._left = dict(self.made)

    @classmethod
    def of(cls, owner: Any, apart: Collection[str] = ()) -> Attributes:
        """Return those of an object that may have been in a run before, under another trainer."""
        found: Attributes | None = vars(owner).get(_KEPT_AS)
        if found is None or found._owner is not owner:  # a copy
            found = vars(owner)[_KEPT_AS] = cls(owner, apart)
        return found

    def leave(self) -> None:
        """Note what a run leaves: what differs from it later was set by somebody."""
        self._left = self._held()

    def take(self) -> None:
        """Count what somebody has set since the last run as what the object was made with."""
        for name, value in self._held().items():
            if name not in self._left or not same(self._left[name], value):
                self.made[name] = value

    def begin(self) -> None:
        """Note what the attributes are when a run begins: so they will be when it goes on."""
        self._begun = self._held()

    def state(self) -> dict[str, Any]:
        """Return the attributes that have changed, or ever had when this was called."""
        now = self._held()
        for name, value in now.items():
            # Of both: the constructor and the beginning of a run will be gone through again.
            if not all(
                name in past and same(past[name], value) for past in (self.made, self._begun)
            ):
                self._changed.add(name)
        return {name: now[name] for name in sorted(self._changed) if name in now}

    def rewind(self) -> None:
        """Undo what earlier runs have changed."""
        self.take()
        now = self._held()
        for name, value in self.made.items():
            if name in now and not same(now[name], value):
                self._set(name, value)
        self._changed = set()

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
        for name, value in state.items():
            self._set(name, value)
        self._changed |= state.keys()

    def _held(self) -> dict[str, Any]:
        held = {}
        for name, value in vars(self._owner).items():
            if name in self._apart:
                continue
            try:
                # A defaultdict or a Counter is filled anew, so that it need not be made.
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
            return  # Keras's own make such anew: the writer of a CSVLogger
        if constant and not isinstance(value, Collection):
            return
        self._warned.add(name)
        _log.warning(
            "%s.%s holds %s, which no checkpoint can: a run that goes on begins without it",
            of.__name__, name, error,
        )  # fmt: skip


def _contents(value: Any) -> dict[str, Any]:
    """Return the attributes of what no checkpoint can hold, to see whether they change."""
    found = {}
    for name, each in getattr(value, "__dict__", {}).items():
        with suppress(NotHeld):
            found[name] = hold(each)
    return found
