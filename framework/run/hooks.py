"""Call the hooks of a run in the documented order."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from framework.callback import Callback, RunView
from framework.callbacks.made_with import KEPT_AS, made_with, restore

_log = logging.getLogger("framework")

_PER_BATCH = ("on_train_batch_start", "on_train_batch_end")


class Hooks:
    """The hooks of a run: the task's own first, then each callback's, in list order.

    Example:
        >>> hooks = Hooks(run, [ModelSummary(), ProgressBar()])
        >>> hooks("on_log", {"train/loss": 2.31})
    """

    def __init__(self, run: RunView, callbacks: Sequence[Callback]) -> None:
        self._run, self._callbacks = run, callbacks
        for callback in callbacks:
            made_with(callback)  # before a hook changes it

    def __call__(self, hook: str, *args: Any) -> None:
        """Call one hook, such as `on_epoch_end`, of the task and of every callback."""
        with self._run.profile("callbacks"):
            own = getattr(self._run.task, hook, None)
            if own is not None:
                own(*args)
            for callback in self._callbacks:
                getattr(callback, hook)(self._run, *args)

    @property
    def every_batch(self) -> bool:
        """Whether a callback overrides a per-batch hook, so that the host wakes for each batch."""
        return any(
            getattr(getattr(callback, hook), "__func__", None) is not getattr(Callback, hook)
            for callback in self._callbacks
            for hook in _PER_BATCH
        )

    @property
    def named(self) -> dict[str, Callback]:
        """The callbacks by class and identity, numbered among those with the same."""
        names = [identity_of(callback) for callback in self._callbacks]
        keys = [f"{name}-{names[:i].count(name)}" for i, name in enumerate(names)]
        return dict(zip(keys, self._callbacks, strict=True))

    def begin(self) -> None:
        """Reset every callback to its initial state, so that nothing remains from another run."""
        for callback in self._callbacks:
            restore(callback)

    def state(self) -> dict[str, Any]:
        """Return the callbacks' states, by class and identity, with the options of each."""
        return {
            key: {"options": made_with(callback).options, "state": _state_of(callback)}
            for key, callback in self.named.items()
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Give each callback its own state, whatever the order of the list.

        Among several of one class and identity, a state goes to the callback with the same options,
        else to the one at the same position, if their number has not changed.
        """
        saved: dict[str, list[Any]] = {}
        for key, each in state.items():
            saved.setdefault(key.rpartition("-")[0], []).append(each)
        present: dict[str, list[Callback]] = {}
        for key, callback in self.named.items():
            present.setdefault(key.rpartition("-")[0], []).append(callback)
        for name, callbacks in present.items():
            there = saved.pop(name, [])
            as_many = len(callbacks) == len(there)
            others = []
            for callback in callbacks:
                mine = next((s for s in there if s["options"] == made_with(callback).options), None)
                if mine is None:
                    others.append(callback)
                else:
                    there.remove(mine)
                    callback.load_state(mine["state"])
            for callback, mine in zip(others, there, strict=False) if as_many else ():
                callback.load_state(mine["state"])
            if not as_many:
                if any(made_with(callback).state for callback in others):
                    _log.warning(
                        "no state in the checkpoint clearly belongs to %s: it starts afresh", name
                    )
                saved |= {name: there} if there else {}
        for name, left in saved.items():
            if any(each["state"] for each in left):
                _log.warning(
                    "the checkpoint has state for %s, but the run has no such callback", name
                )


def identity_of(callback: Callback) -> str:
    """Return a callback's distinguishing name: its class, and its identity in brackets."""
    identity = callback.identity
    return type(callback).__name__ + (f"({identity})" if identity else "")


def _state_of(callback: Callback) -> dict[str, Any]:
    return {k: v for k, v in callback.state().items() if k != KEPT_AS}  # of `vars(self)`
