"""Calling the hooks of a Keras callback with what they expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import keras

from framework.callbacks.keras.known import WRITERS, keras_logs
from framework.errors import UserError
from framework.step.log_values import number_of

if TYPE_CHECKING:
    from framework.callback import RunView


class KerasCalls:
    """Calls a Keras callback's hooks, with a model that has what a compiled one would.

    Example:
        >>> calls = KerasCalls(keras.callbacks.EarlyStopping())
        >>> calls(trainer, "on_epoch_end", 0, {"val_loss": 2.3})    # whether it asked to stop
        False

    Args:
        callback: The Keras callback.

    Attributes:
        model: What it is given; to be set before the first call.
    """

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self.model: Any = None

    def __call__(self, run: RunView, hook: str, *args: Any) -> bool:
        """Call one hook.

        Args:
            trainer: The run.
            hook: Its name in Keras.
            *args: What it takes.

        Returns:
            Whether it has set `model.stop_training`.
        """
        if not run.is_chief and isinstance(self._callback, WRITERS):
            return False
        stopped = run.status == "stopped"
        with self._lent(run, stop_training=stopped):
            getattr(self._callback, hook)(*args)
            return bool(self.model.stop_training) and not stopped

    @contextmanager
    def _lent(self, run: RunView, **lent: Any) -> Iterator[None]:
        """Give the model what it needs in the body, and then what it had."""
        # For so long only: nothing is left behind, however a run ends and whoever else does this.
        model, optimizers = self.model, list(run.optimizers.values())
        if len(optimizers) == 1:
            lent["optimizer"] = optimizers[0]
        own = {name: vars(model)[name] for name in lent if name in vars(model)}
        try:
            for name, value in lent.items():
                setattr(model, name, value)
            yield
        finally:
            for name in lent:
                if name in own:
                    setattr(model, name, own[name])
                elif name in vars(model):
                    delattr(model, name)


def overrides(callback: Any, *hooks: str) -> bool:
    """Tell whether a callback has a hook of its own; a LambdaCallback has them on the object."""
    return any(not getattr(getattr(callback, h, None), "_is_default", False) for h in hooks)


def wants_batches(callback: Any) -> tuple[bool, bool]:
    """Tell whether a callback wants to be called before and after every batch."""
    if type(callback) is keras.callbacks.ModelCheckpoint and callback.save_freq == "epoch":
        return False, False  # it overrides one in any case, and then does nothing there
    return (
        overrides(callback, "on_train_batch_begin", "on_batch_begin"),
        overrides(callback, "on_train_batch_end", "on_batch_end"),
    )


def params_of(run: RunView) -> dict[str, Any]:
    """Return what Keras tells a callback of the run."""
    config = run.config
    verbose = int(config.enable_progress_bar)
    return {"epochs": config.max_epochs, "steps": run.steps_per_epoch, "verbose": verbose}


def epoch_logs(run: RunView, first: int) -> dict[str, Any]:
    """Return the logs of an epoch's end: what was measured in it, after its first step."""
    found = {
        name: value
        for name, value in run.metrics.items()
        if name.startswith(("train/", "val/")) and (run.measured_at(name) or 0) > first
    }
    return keras_logs(found)


def added_to(given: Mapping[str, Any], logs: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that a callback has added to logs, by full name."""
    added = {}
    for name, value in logs.items():
        if name not in given:
            with suppress(UserError):  # what is no number is for the next callback alone
                full = f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"
                added[full] = number_of(full, value)
    return added
