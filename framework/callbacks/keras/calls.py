"""Calls the hooks of a Keras callback with the arguments that they expect."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import keras

from framework.callback import RunView
from framework.callbacks.keras.known import WRITERS, keras_logs
from framework.core.statuses import STOPPED
from framework.errors import UserError
from framework.step.check_logged import number_of


class KerasCalls:
    """Call a Keras callback's hooks, with the model attributes that a compiled model has.

    Example:
        >>> calls = KerasCalls(keras.callbacks.EarlyStopping())
        >>> calls(run, "on_epoch_end", 0, {"val_loss": 2.3})    # returns whether to stop
        False

    Attributes:
        model: The callback's model; set it before the first call.
    """

    def __init__(self, callback: Any) -> None:
        self._callback = callback
        self.model: Any = None

    def __call__(self, run: RunView, hook: str, *args: Any) -> bool:
        """Call one hook; return whether it has set `model.stop_training`."""
        if not run.is_chief and isinstance(self._callback, WRITERS):
            return False
        stopped = run.status in STOPPED
        with self._lent(run, stop_training=stopped):
            getattr(self._callback, hook)(*args)
            return bool(self.model.stop_training) and not stopped

    @contextmanager
    def _lent(self, run: RunView, **lent: Any) -> Iterator[None]:
        """Set attributes of the model within the body, and restore them afterwards."""
        # Restored after every call, so nothing remains however a run ends.
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
    """Return whether a callback overrides a hook; a LambdaCallback does so on the instance."""
    return any(not getattr(getattr(callback, h, None), "_is_default", False) for h in hooks)


def wants_batches(callback: Any) -> tuple[bool, bool]:
    """Return whether a callback needs calls before every batch, and after every batch."""
    if type(callback) is keras.callbacks.ModelCheckpoint and callback.save_freq == "epoch":
        return False, False  # it always overrides one, which then does nothing
    return (
        overrides(callback, "on_train_batch_begin", "on_batch_begin"),
        overrides(callback, "on_train_batch_end", "on_batch_end"),
    )


def params_of(run: RunView) -> dict[str, Any]:
    """Return the `params` that Keras gives to a callback."""
    config = run.config
    verbose = int(config.enable_progress_bar)
    return {"epochs": config.max_epochs, "steps": run.steps_per_epoch, "verbose": verbose}


def epoch_logs(run: RunView, first: int) -> dict[str, Any]:
    """Return the logs for the end of an epoch: the metrics measured after step `first`."""
    found = {
        name: value
        for name, value in run.metrics.items()
        if name.startswith(("train/", "val/")) and (run.measured_at(name) or 0) > first
    }
    return keras_logs(found)


def added_to(given: Mapping[str, Any], logs: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers that a callback has added to `logs`, by full name."""
    added = {}
    for name, value in logs.items():
        if name not in given:
            with suppress(UserError):  # other values are only for the next callbacks
                full = f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}"
                added[full] = number_of(full, value)
    return added
