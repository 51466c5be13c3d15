"""The callback: hooks on the host, in one published order.

The whole of `Trainer.fit`, as the hooks see it:

    on_setup                                the models and optimizers are built, nothing is compiled
    on_fit_start
    repeat until an end is reached:
        on_epoch_start
        repeat until the epoch ends:
            on_train_batch_start            only if overridden: wakes the host for every batch
            <the compiled loop runs up to the nearest step that anybody asked for>
            on_train_batch_end              only if overridden: wakes the host for every batch
            on_log(metrics)                 every `log_every`, and at the end of an epoch
            on_validation_start             every `val_every`
            on_validation_end(metrics)
            on_wake                         whenever the callback's own `every` is due
            on_wake_end                     after all of these, if there was any
        on_epoch_end
    on_exception(error)                     if the run failed or was interrupted
    on_fit_end                              always, once on_fit_start was called

`validate`, `test` and `predict` call only on_setup and their own pair: on_validation_*,
on_test_*, on_predict_*. At each point the task's own hook comes first, then the callbacks in list
order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framework.every import Every

if TYPE_CHECKING:
    from framework.trainer import Trainer


class Callback:
    """One concern beside training: override the hooks you need.

    Set `every` to be woken by `on_wake` at that moment; nothing else is paid for. Overriding
    `on_train_batch_start` or `on_train_batch_end` wakes the host for every batch, which costs the
    speed of the compiled loop.

    Example:
        >>> class Greeter(Callback):
        ...     every = Every("100st")
        ...     def on_wake(self, trainer):
        ...         print("step", trainer.progress.step)

    A callback that changes during training returns what it must remember from `state` and takes
    it back in `load_state`; both are saved with every checkpoint.
    """

    every: Every | None = None

    @property
    def identity(self) -> str:
        """What tells it from others of its class, such as the metric that it watches.

        A run that is continued gives a saved state only to a callback of the same class and
        identity. Default: the name of the metric in its attribute `monitor`, if there is one.
        """
        monitor = getattr(self, "monitor", None)
        return str(getattr(monitor, "name", monitor) or "")

    def on_setup(self, trainer: Trainer) -> None:
        """Run once in every stage, before a step is compiled or a checkpoint is loaded."""

    def on_fit_start(self, trainer: Trainer) -> None:
        """Run once, after the model is built and restored, before the first step."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """Run once, after the last step, however the run ended."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Run before the first step of each epoch, and where a run continues in mid-epoch."""

    def on_epoch_end(self, trainer: Trainer) -> None:
        """Run after the last step of each epoch, and after its validation.

        Also where the run ends on purpose in mid-epoch (`progress.batch` is then not 0), but not
        where a signal cuts it short: the run that continues from there finishes the epoch.
        """

    def on_train_batch_start(self, trainer: Trainer) -> None:
        """Run before every batch. Overriding it wakes the host for every batch."""

    def on_train_batch_end(self, trainer: Trainer) -> None:
        """Run after every batch. Overriding it wakes the host for every batch."""

    def on_wake(self, trainer: Trainer) -> None:
        """Run whenever `every` is due, after logging and validation of the same step."""

    def on_wake_end(self, trainer: Trainer) -> None:
        """Run after a log, a validation or an `on_wake`, when everybody has had their turn."""

    def on_log(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Run when training metrics were read; `metrics` holds just those, by full name."""

    def on_validation_start(self, trainer: Trainer) -> None:
        """Run before a validation, in mid-training or from `Trainer.validate`."""

    def on_validation_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Run after a validation; `metrics` holds its results, such as `val/accuracy`."""

    def on_test_start(self, trainer: Trainer) -> None:
        """Run before a test."""

    def on_test_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        """Run after a test; `metrics` holds its results, such as `test/accuracy`."""

    def on_predict_start(self, trainer: Trainer) -> None:
        """Run before a prediction."""

    def on_predict_end(self, trainer: Trainer) -> None:
        """Run after a prediction."""

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        """Run when an exception ends the run, before `on_fit_end`."""

    def state(self) -> dict[str, Any]:
        """Return what must survive a restart: JSON values and NumPy arrays, by name.

        A `fit` that continues no run begins with the state that the callback was made with, by
        `load_state`, so that nothing of an earlier one is left.
        """
        return {}

    def _options(self) -> Mapping[str, Any]:
        """Return what tells several of one class and identity apart, before the first run."""
        return vars(self)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take back what `state` returned."""
