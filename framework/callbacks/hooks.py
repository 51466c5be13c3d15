"""Calling the hooks of a run in their published order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framework.callbacks.base import Callback

if TYPE_CHECKING:
    from framework.trainer import Trainer

_PER_BATCH = ("on_train_batch_start", "on_train_batch_end")


class Hooks:
    """The hooks of a run: the task's own first, then each callback's, in list order.

    Example:
        >>> hooks = Hooks(trainer, [ModelSummary(), ProgressBar()])
        >>> hooks("on_log", {"train/loss": 2.31})

    Args:
        trainer: Given to each callback; its task's hooks are called without it.
        callbacks: In the order in which they are called.
    """

    def __init__(self, trainer: Trainer, callbacks: Sequence[Callback]) -> None:
        self._trainer, self._callbacks = trainer, callbacks

    def __call__(self, hook: str, *args: Any) -> None:
        """Call one hook everywhere.

        Args:
            hook: Its name, such as `on_epoch_end`.
            *args: What it takes beside the trainer.
        """
        with self._trainer.profile("callbacks"):
            own = getattr(self._trainer.task, hook, None)
            if own is not None:
                own(*args)
            for callback in self._callbacks:
                getattr(callback, hook)(self._trainer, *args)

    @property
    def every_batch(self) -> bool:
        """Whether a callback overrides a per-batch hook, and so wakes the host for each batch."""
        return any(
            getattr(type(callback), hook) is not getattr(Callback, hook)
            for callback in self._callbacks
            for hook in _PER_BATCH
        )

    @property
    def named(self) -> dict[str, Callback]:
        """The callbacks by class and by their number in it."""
        names = [type(callback).__name__ for callback in self._callbacks]
        keys = [f"{name}-{names[:i].count(name)}" for i, name in enumerate(names)]
        return dict(zip(keys, self._callbacks, strict=True))

    def state(self) -> dict[str, Any]:
        """Return the callbacks' states, by class and by their number in it."""
        return {key: callback.state() for key, callback in self.named.items()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned; callbacks that it does not know stay as they are."""
        for key, callback in self.named.items():
            if key in state:
                callback.load_state(state[key])
