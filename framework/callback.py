"""Callbacks: hooks that run on the host, in a documented order.

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
            on_evaluation_progress          now and then during a long one
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

from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from framework.every import Every
from framework.logger import RunLogs

if TYPE_CHECKING:
    import keras

    from framework.checkpoint.retention import Retention
    from framework.checkpoint.store import CheckpointStore
    from framework.config import TrainerConfig
    from framework.core.profile import Profile
    from framework.core.progress import Progress
    from framework.step_context import Updates
    from framework.task import Task


class RunView(RunLogs, Protocol):
    """What a callback can read of its run and request from it.

    Every hook receives it. Read any attribute, but change the run only through the methods, and log
    through those of `framework.logger.RunLogs`. In the
    test of a callback, a small fake with the few members that the callback uses is enough.
    """

    @property
    def config(self) -> TrainerConfig:
        """The trainer's options."""

    @property
    def progress(self) -> Progress:
        """The training progress: epoch, batch, step, examples, seconds."""

    @property
    def stage(self) -> str:
        """`fit`, `validate`, `test` or `predict`."""

    @property
    def validating(self) -> bool:
        """Whether a validation is running."""

    @property
    def has_validation(self) -> bool:
        """Whether `fit` has any data to validate on."""

    @property
    def at_epoch_end(self) -> bool:
        """Whether the current wake-up is the last of its epoch; `on_epoch_end` follows."""

    @property
    def task(self) -> Task:
        """The task; its `model` is built from `on_setup` on."""

    @property
    def callbacks(self) -> Sequence[Callback]:
        """All callbacks of the run, in the order in which they are called."""

    @property
    def optimizers(self) -> dict[str, keras.Optimizer]:
        """The optimizers by name; a single one is called `optimizer`. Empty outside `fit`."""

    @property
    def updates(self) -> Updates | None:
        """What to ask of the updates of weights; None outside `fit`."""

    @property
    def run_dir(self) -> Path | None:
        """Where this process writes, or None where it writes nothing."""

    @property
    def checkpoints(self) -> CheckpointStore:
        """The run's checkpoints; the store only reads where this process keeps none."""

    @property
    def data_info(self) -> Mapping[str, Any]:
        """Where the data came from, and how many rows they have."""

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes, by label; empty if the data do not name them."""

    @property
    def is_chief(self) -> bool:
        """Whether this process writes; only one of several workers does."""

    @property
    def status(self) -> str:
        """`running`, `completed`, `stopped`, `pruned`, `interrupted` or `failed`."""

    @property
    def stop_reason(self) -> str:
        """The reason why the run ended, as a sentence; empty while it runs."""

    @property
    def already_complete(self) -> bool:
        """Whether `fit` found nothing left to do."""

    @property
    def engine(self) -> str:
        """How the training loop is compiled: `graph`, `step_xla`, `loop_xla` or `eager`."""

    @property
    def engine_reason(self) -> str:
        """Why it is this engine, in a few words; empty if it was asked for."""

    @property
    def best(self) -> Mapping[str, Any] | None:
        """The best checkpoint so far: its step, metric and value."""

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of the current epoch, or None while that is unknown."""

    @property
    def total_steps(self) -> int | None:
        """Planned optimizer steps in total, or None if unknown."""

    @property
    def metrics(self) -> Mapping[str, float]:
        """The latest value of every metric by full name; `train/…` is the last epoch's."""

    @property
    def metric_names(self) -> Set[str]:
        """The full names of the values that the compiled steps log; empty in the eager engine."""

    @property
    def profile(self) -> Profile:
        """How the wall time of the current stage is spent."""

    @property
    def recovers_from_overflow(self) -> bool:
        """Whether a loss scale skips non-finite updates and can still decrease."""

    @property
    def holds_state(self) -> bool:
        """Whether checkpoints store the run as it was before its end."""

    def measured_at(self, name: str) -> int | None:
        """Return the step at which a metric was last measured, or None if it never was."""

    def keras_metric(self, name: str) -> keras.Metric | None:
        """Return the Keras metric logged under a full name such as `val/auc`, or None."""

    def steps_not_finite(self, name: str) -> int | None:
        """Return the number of steps of the last training row in which a value was NaN or infinite.

        Args:
            name: The full name of the value, such as `train/loss`.

        Returns:
            The number of steps, or None if a step logs the value several times.
        """

    def epoch_so_far(self) -> dict[str, float]:
        """Return the means of the training metrics over the current epoch, read from the device."""

    def first_batch(self) -> Any:
        """Return the first training batch as a step gets it; None where reading has effects."""

    def each_prediction(self, visit: Callable[[str, Any, Any], None]) -> bool:
        """Call `visit(set, batch, prediction)` for each evaluated batch; False: interrupted."""

    def stop(self, reason: str, *, status: str = "stopped") -> None:
        """End training deliberately after the current wake-up.

        Args:
            reason: The reason, as a sentence for the log and `result.json`.
            status: `stopped`, or `pruned` if others were better.
        """

    def save_checkpoint(
        self,
        *,
        wait: bool = True,
        judged: dict[str, Any] | None = None,
        permanent: bool = False,
        retention: Retention | None = None,
    ) -> Path | None:
        """Save the whole state of the run; the same command resumes from it.

        Args:
            wait: Return only when it is on disk. Otherwise only the state is copied and a thread
                writes it, logging any error.
            judged: The metric that decides whether it is the best; see `CheckpointStore.save`.
            permanent: Never delete this checkpoint.
            retention: Which checkpoints to keep now. Default: all.

        Returns:
            The path, or None if the run keeps no checkpoints.

        Raises:
            OSError: It cannot be written, and `wait` is True.
            UserError: The run directory no longer exists, or nothing was fitted yet.
        """

    def note_best(self, best: dict[str, Any] | None) -> None:
        """Record which checkpoint is the best: its step, metric and value."""

    def hold_state(self) -> None:
        """Make checkpoints store the run as it is now, whatever changes until `fit` returns.

        Use it in `on_fit_end` if the callback changes the weights at the end: a run that is
        extended later then resumes from the weights of training.
        """

    def recompile(self) -> None:
        """Compile the training step again, because other weights are trainable now."""

    def add_average(self, name: str, average: Any) -> None:
        """Keep an `Average` of the weights, updated with them. Call it in `on_setup`."""


class Callback:
    """Customize training by overriding the hooks you need.

    Set `every`, and `on_wake` is called at that interval, at no other cost. Overriding
    `on_train_batch_start` or `on_train_batch_end` wakes the host for every batch, which gives up
    the speed of the compiled loop.

    Example:
        >>> class Greeter(Callback):
        ...     every = Every("100st")
        ...     def on_wake(self, trainer):
        ...         print("step", trainer.progress.step)

    A callback that changes during training returns the state to save from `state` and restores it
    in `load_state`; every checkpoint contains it.
    """

    every: Every | None = None

    @property
    def identity(self) -> str:
        """What distinguishes it from others of its class, such as the metric that it monitors.

        A run that is continued gives a saved state only to a callback of the same class and
        identity. Default: the name of the metric in its attribute `monitor`, if there is one.
        """
        monitor = getattr(self, "monitor", None)
        return str(getattr(monitor, "name", monitor) or "")

    def on_setup(self, run: RunView) -> None:
        """Run once in every stage, before a step is compiled or a checkpoint is loaded."""

    def on_fit_start(self, run: RunView) -> None:
        """Run once, after the model is built and restored, before the first step."""

    def on_fit_end(self, run: RunView) -> None:
        """Run once, after the last step, however the run ended."""

    def on_epoch_start(self, run: RunView) -> None:
        """Run before the first step of each epoch, and when a run resumes in mid-epoch."""

    def on_epoch_end(self, run: RunView) -> None:
        """Run after the last step of each epoch, and after its validation.

        Also where the run ends on purpose in mid-epoch (`progress.batch` is then not 0), but not
        where a signal cuts it short: the run that continues from there finishes the epoch.
        """

    def on_train_batch_start(self, run: RunView) -> None:
        """Run before every batch. Overriding it wakes the host for every batch."""

    def on_train_batch_end(self, run: RunView) -> None:
        """Run after every batch. Overriding it wakes the host for every batch."""

    def on_wake(self, run: RunView) -> None:
        """Run whenever `every` is due, after logging and validation of the same step."""

    def on_wake_end(self, run: RunView) -> None:
        """Run after a log, a validation or an `on_wake`, once all callbacks have run those."""

    def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Run after training metrics were read; `metrics` holds only those, by full name."""

    def on_validation_start(self, run: RunView) -> None:
        """Run before a validation, in training or from `Trainer.validate`."""

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Run after a validation; `metrics` holds its results, such as `val/accuracy`."""

    def on_evaluation_progress(self, run: RunView, done: int, total: int | None) -> None:
        """Run now and then in an evaluation; `done` of `total` batches, if known, are over."""

    def on_test_start(self, run: RunView) -> None:
        """Run before a test."""

    def on_test_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Run after a test; `metrics` holds its results, such as `test/accuracy`."""

    def on_predict_start(self, run: RunView) -> None:
        """Run before a prediction."""

    def on_predict_end(self, run: RunView) -> None:
        """Run after a prediction."""

    def on_exception(self, run: RunView, error: BaseException) -> None:
        """Run when an exception ends the run, before `on_fit_end`."""

    def state(self) -> dict[str, Any]:
        """Return the state to save in checkpoints: JSON values and NumPy arrays, by name.

        A `fit` that does not resume a run passes the state from the callback's creation to
        `load_state`, so that nothing remains from an earlier run.
        """
        return {}

    def _options(self) -> Mapping[str, Any]:
        """Return what distinguishes callbacks of one class and identity before the first run."""
        return vars(self)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
