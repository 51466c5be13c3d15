"""Wraps Keras callbacks, and saves their state in checkpoints."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, cast

from framework.callback import Callback, RunView
from framework.callbacks.attribute_state import Attributes
from framework.callbacks.keras import known as keras_known
from framework.callbacks.keras.calls import (
    KerasCalls,
    added_to,
    epoch_logs,
    overrides,
    params_of,
    wants_batches,
)
from framework.core.codec import same
from framework.core.models_by_name import models_of
from framework.errors import UserError

_log = logging.getLogger("framework")


class KerasCallback(Callback):
    """Call a Keras callback as `Model.fit` would, and save its state in checkpoints.

    The Trainer wraps Keras callbacks in `Trainer(callbacks=[...])` automatically. While a hook
    runs, `model.optimizer` is the run's optimizer, if there is only one, and
    `model.stop_training = True` stops the run. Logs have Keras's names: `loss`, `val_loss`,
    `val_<set>_loss`. Values that the callback adds to the logs of an epoch are logged. Only an
    overridden per-batch hook wakes the host for every batch.

    The state is every attribute that has changed since construction: numbers, text, NumPy arrays,
    and lists, tuples, sets and dicts of these. A new run resets them to their values at
    construction, or to values that you set since the last run. Hooks differ from `Model.fit` only
    where a run resumes or ends early:

    - A resumed run calls `on_train_begin`, and restores the state after it.
    - `on_epoch_begin` is called once per epoch, not again when a run resumes in mid-epoch.
    - `on_epoch_end` is called when the epoch is complete, not when the run ends in mid-epoch.
    - `on_train_end` is not called if an error or a signal ends the run. If it changes the weights
      (`restore_best_weights`), it changes those in memory: the checkpoint has the last ones.

    Example:
        >>> KerasCallback(keras.callbacks.EarlyStopping("val_loss", patience=3))

    Args:
        callback: Instance of a subclass of `keras.callbacks.Callback`.

    Attributes:
        callback: The same instance.

    Raises:
        UserError: If it is not such an instance, or is not supported; in `fit`, if there are
            several models, or it monitors a metric that nothing logs.
    """

    _loaded: Mapping[str, Any] | None  # the loaded state, until on_train_begin is called
    _before: Mapping[str, Any] | None  # the state before the validation that is running

    def __new__(cls, callback: Any) -> KerasCallback:
        """Create an instance of a separate subclass for each class of Keras callback."""
        # Checkpoints distinguish states by the class name. The subclass has a per-batch hook,
        # which wakes the host, only if the Keras callback has one.
        start, end = wants_batches(callback)
        hooks = {"on_train_batch_start": cls._batch_start} if start else {}
        hooks |= {"on_train_batch_end": cls._batch_end} if end else {}
        kind = type(f"{cls.__name__}[{type(callback).__name__}]", (cls,), hooks)
        return cast("KerasCallback", object.__new__(kind))

    def __init__(self, callback: Any) -> None:
        self._name = type(callback).__name__
        keras_known.refuse_unfit(callback)
        keras_known.settle_monitor(callback)
        self.callback, self._calls = callback, KerasCalls(callback)
        self._attributes = Attributes.of(callback, apart=("_model", "params"))
        self._attributes.take()
        self._logs: dict[str, Any] = {}
        self._reset()

    @property
    def identity(self) -> str:
        """The metric that the callback monitors, if any."""
        return str(getattr(self.callback, "monitor", "") or "")

    def _options(self) -> Mapping[str, Any]:
        return self._attributes.made

    def on_setup(self, run: RunView) -> None:
        """Give the callback its model and its params."""
        models = list(models_of(run.task.model).values())
        if len(models) > 1:
            raise UserError(
                f"a Keras callback has one model, but the task has {len(models)}",
                where=f"callbacks, {self._name}",
                fix="Write a framework.Callback instead: its hooks find all models in "
                "run.task.model.",
            )
        keras_known.refuse_layer(self.callback, models[0])
        self._reset()
        self._calls.model = models[0]
        keras_known.refuse_fixed_rates(self.callback, run)
        keras_known.refuse_unsaved(self.callback, models[0])
        if overrides(self.callback, "on_test_batch_begin", "on_test_batch_end"):
            _log.warning("%s: on_test_batch_begin and _end are never called", self._name)
        self._call(run, "set_model", models[0])
        self._call(run, "set_params", params_of(run))

    def on_fit_start(self, run: RunView) -> None:
        """Call `on_train_begin`, then restore the state; stop if the run was stopped before."""
        earlier = run.callbacks[: run.callbacks.index(self)]
        if not any(isinstance(each, KerasCallback) for each in earlier):  # others may log it
            keras_known.refuse_unlogged(self.callback, run)
        state, self._loaded = self._loaded, None
        keras_known.settle_monitor(self.callback, run)
        self._attributes.rewind()
        with keras_known.appending(self.callback, run.progress.epoch if state else None):
            self._call(run, "on_train_begin", {})
        self._attributes.begin()
        if state is not None:
            self._attributes.load_state(state["attributes"])
            self._epoch = state["epoch"]
            # Unless an option has changed since, such as `patience`.
            if state["stopped"] and same(state["made"], self._attributes.made):
                self._stop(run)

    def on_fit_end(self, run: RunView) -> None:
        """Call `on_train_end`, unless an error or a signal ended the run."""
        # As in `Model.fit`.
        ended = run.status not in ("failed", "interrupted")
        if ended and overrides(self.callback, "on_train_end"):
            run.hold_state()
            self._call(run, "on_train_end", self._logs)
        self._attributes.leave()

    def on_epoch_start(self, run: RunView) -> None:
        """Call `on_epoch_begin`, unless the run was interrupted after that call."""
        progress = run.progress
        self._first, self._last = progress.step - progress.batch, progress.step
        if self._epoch != progress.epoch:
            self._call(run, "on_epoch_begin", progress.epoch, {})
            self._epoch = progress.epoch

    def on_epoch_end(self, run: RunView) -> None:
        """Call `on_epoch_end` with the epoch's metrics, if the epoch is complete."""
        if run.progress.epoch <= self._epoch:
            return  # the run ends in mid-epoch; the resumed run completes the epoch
        given = epoch_logs(run, self._first)
        self._logs = dict(given)
        self._call(run, "on_epoch_end", self._epoch, self._logs)
        added = added_to(given, self._logs)
        if added:  # later callbacks see it in their logs, as in Keras
            run.log_metrics(added)

    def on_validation_start(self, run: RunView) -> None:
        """Call `on_test_begin`."""
        if run.stage == "fit" and overrides(self.callback, "on_test_begin"):
            self._before = self.state()  # a run stopped in mid-validation repeats all of it
        self._call(run, "on_test_begin", {})

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Call `on_test_end`."""
        self._before = None
        self._call(run, "on_test_end", keras_known.keras_logs(metrics, bare=True))
        if run.stage != "fit":
            self._attributes.leave()

    def on_test_start(self, run: RunView) -> None:
        """Call `on_test_begin`: Keras does not distinguish a test from a validation."""
        self.on_validation_start(run)

    def on_test_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Call `on_test_end`."""
        self.on_validation_end(run, metrics)

    def state(self) -> dict[str, Any]:
        """Return the changed attributes, and the last epoch that has started."""
        if earlier := self._loaded or self._before:
            return dict(earlier)
        return {
            "epoch": self._epoch,
            "stopped": self._stopped,
            "made": dict(self._attributes.made),
            "attributes": self._attributes.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Keep what `state` returned, to restore it after `on_train_begin`."""
        self._loaded = state

    def _batch_start(self, run: RunView) -> None:
        self._call(run, "on_train_batch_begin", run.progress.step - self._first, {})

    def _batch_end(self, run: RunView) -> None:
        step = run.progress.step
        if step > self._last:  # otherwise the data ended without another batch
            self._last = step
            logs = keras_known.keras_logs(run.epoch_so_far())
            self._call(run, "on_train_batch_end", step - self._first - 1, logs)

    def _call(self, run: RunView, hook: str, *args: Any) -> None:
        if self._calls(run, hook, *args) and run.stage == "fit":
            self._stop(run)

    def _stop(self, run: RunView) -> None:
        self._stopped = True
        run.stop(f"{self._name} set model.stop_training")

    def _reset(self) -> None:
        self._epoch, self._first, self._last, self._stopped = -1, 0, 0, False
        self._loaded = self._before = None
        self._logs = {}
