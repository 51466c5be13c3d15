"""Callbacks written for Keras, with their state in every checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from framework.callback import Callback
from framework.callbacks.attributes import Attributes
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
from framework.core.models import models_of
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.callback import RunView

_log = logging.getLogger("framework")


class KerasCallback(Callback):
    """Calls a Keras callback as `Model.fit` would, and keeps what it remembers in checkpoints.

    One in `Trainer(callbacks=[...])` is wrapped in this by itself. While a hook runs,
    `model.optimizer` is the run's, if there is one alone, and `model.stop_training = True` ends
    the run. Logs go by Keras's names: `loss`, `val_loss`, `val_<set>_loss`; what is added to those
    of an epoch is logged. Only an overridden per-batch hook wakes the host for every batch.

    Its state is every attribute that has changed since it was made: numbers, text, NumPy arrays,
    and lists, tuples, sets and dicts of these. A run that continues nothing begins with them as
    they were made, or were set by somebody since the last run. A run that goes on calls
    `on_train_begin`, as every `fit` does, and puts the state back after it. `on_epoch_begin` is
    called once for each epoch, not again where a run goes on within it; `on_epoch_end` once it is
    over, not where the run ends in mid-epoch; `on_train_end` not where an error or a signal ends
    the run. What that does to the weights (`restore_best_weights`) it does in memory: the
    checkpoint keeps the last ones.

    Example:
        >>> KerasCallback(keras.callbacks.EarlyStopping("val_loss", patience=3))

    Args:
        callback: An object of a subclass of `keras.callbacks.Callback`.

    Attributes:
        callback: The same.

    Raises:
        UserError: It is none, or does the framework's work; in `fit`, if there are several models,
            or it watches a metric that nothing logs.
    """

    _loaded: Mapping[str, Any] | None  # until on_train_begin was called
    _before: Mapping[str, Any] | None  # the state before a validation that is running

    def __new__(cls, callback: Any) -> KerasCallback:
        """Make an object of a class of its own for each kind of callback."""
        # Checkpoints tell the states of several apart by that class's name; and it has a per-batch
        # hook, which wakes the host, only if the callback has.
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
        """The metric that the callback watches, if any."""
        return str(getattr(self.callback, "monitor", "") or "")

    def _options(self) -> Mapping[str, Any]:
        return self._attributes.made

    def on_setup(self, run: RunView) -> None:
        """Give the callback its model."""
        models = list(models_of(run.task.model).values())
        if len(models) > 1:
            raise UserError(
                f"a Keras callback has one model, and the task has {len(models)}",
                where=f"callbacks, {self._name}",
                fix="Write it as a framework.Callback, which is given the trainer: "
                "trainer.task.model holds all of them.",
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
        """Call `on_train_begin`, then put the state back; stop a run that was stopped before."""
        earlier = run.callbacks[: run.callbacks.index(self)]
        if not any(isinstance(each, KerasCallback) for each in earlier):  # they may add to logs
            keras_known.refuse_unlogged(self.callback, run)
        state, self._loaded = self._loaded, None
        keras_known.settle_monitor(self.callback, run)
        self._attributes.rewind()
        with keras_known.going_on(self.callback, run.progress.epoch if state else None):
            self._call(run, "on_train_begin", {})
        self._attributes.begin()
        if state is not None:
            self._attributes.load_state(state["attributes"])
            self._epoch = state["epoch"]
            # Unless it is given another chance, such as more patience.
            if state["stopped"] and same(state["made"], self._attributes.made):
                self._stop(run)

    def on_fit_end(self, run: RunView) -> None:
        """Call `on_train_end`, unless an error or a signal ended the run."""
        # As `Model.fit` has it.
        ended = run.status not in ("failed", "interrupted")
        if ended and overrides(self.callback, "on_train_end"):
            run.hold_state()
            self._call(run, "on_train_end", self._logs)
        self._attributes.leave()

    def on_epoch_start(self, run: RunView) -> None:
        """Call `on_epoch_begin`, unless that was done before the run was interrupted."""
        progress = run.progress
        self._first, self._last = progress.step - progress.batch, progress.step
        if self._epoch != progress.epoch:
            self._call(run, "on_epoch_begin", progress.epoch, {})
            self._epoch = progress.epoch

    def on_epoch_end(self, run: RunView) -> None:
        """Call `on_epoch_end` with the epoch's metrics, if it is over."""
        if run.progress.epoch <= self._epoch:
            return  # the run ends in mid-epoch; the one that goes on from there finishes it
        given = epoch_logs(run, self._first)
        self._logs = dict(given)
        self._call(run, "on_epoch_end", self._epoch, self._logs)
        added = added_to(given, self._logs)
        if added:  # in Keras the callbacks of a list share one dict; here the next see it so
            run.log_metrics(added)

    def on_validation_start(self, run: RunView) -> None:
        """Call `on_test_begin`."""
        if run.stage == "fit" and overrides(self.callback, "on_test_begin"):
            self._before = self.state()  # a signal in mid-validation has all of it done again
        self._call(run, "on_test_begin", {})

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Call `on_test_end`."""
        self._before = None
        self._call(run, "on_test_end", keras_known.keras_logs(metrics, bare=True))
        if run.stage != "fit":
            self._attributes.leave()

    def on_test_start(self, run: RunView) -> None:
        """Call `on_test_begin`; in Keras a test is an evaluation like any other."""
        self.on_validation_start(run)

    def on_test_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Call `on_test_end`."""
        self.on_validation_end(run, metrics)

    def state(self) -> dict[str, Any]:
        """Return the attributes that have changed, and how far the callback has been called."""
        if earlier := self._loaded or self._before:
            return dict(earlier)
        return {
            "epoch": self._epoch,
            "stopped": self._stopped,
            "made": dict(self._attributes.made),
            "attributes": self._attributes.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned, once `on_train_begin` was called."""
        self._loaded = state

    def _batch_start(self, run: RunView) -> None:
        self._call(run, "on_train_batch_begin", run.progress.step - self._first, {})

    def _batch_end(self, run: RunView) -> None:
        step = run.progress.step
        if step > self._last:  # or the data had ended, and there was none
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
