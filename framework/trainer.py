"""`Trainer`: fit, validate, test, predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from framework.callback import Callback, RunView
from framework.checkpoint.retention import Retention
from framework.checkpoint.store import CheckpointStore
from framework.config import TrainerConfig
from framework.core.flat import flat
from framework.core.profile import Profile
from framework.core.progress import Progress
from framework.core.state import State
from framework.logger import Logger
from framework.run.fit_lifetime import resume_from, resume_point, started
from framework.run.found_rates import find_rate, rates_of_new_run, use_rates
from framework.run.judging import evaluated, predicted
from framework.run.rate_curve import RateCurve
from framework.run.run import Run
from framework.task import Task


class Trainer:
    """Train, validate, test and predict with a task.

    Between two requested moments (`log_every`, `val_every`, a callback's `every`), nothing runs in
    Python: the compiled loop runs the whole span.

    Example:
        >>> trainer = Trainer(max_epochs=5, precision="mixed_bfloat16", run_dir="runs/a")
        >>> trainer.fit(task, Data(train=(x, y), val_fraction=0.1))
        >>> trainer.test(task, Data(test=(x_test, y_test)))
        {'test/loss': 2.61, 'test/accuracy': 0.355}

    Args:
        callbacks: Added to the built-in callbacks and to those of the task.
        loggers: The loggers that receive metrics. They need a `run_dir`.
        run_dir: The directory for logs, checkpoints and `result.json`; an existing run in it is
            resumed. Default: nothing is written.
        info: Further entries for `result.json`, such as the task's name in the configuration.
        hparams: What distinguishes this run from others, such as `{"seed": 1, "model": {"units":
            64}}`, to compare runs by. Default: the options.
        full_config: The whole configuration, for loggers that keep it. Default: the options.
        **options: The fields of `framework.config.TrainerConfig`, such as `max_epochs`.

    Raises:
        UserError: An option does not exist or is out of range.
    """

    def __init__(
        self,
        *,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        run_dir: str | Path | None = None,
        info: Mapping[str, Any] | None = None,
        hparams: Mapping[str, Any] | None = None,
        full_config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        chosen = flat(options if hparams is None else hparams)
        recorded = (dict(full_config or options), chosen)
        self._run = Run(callbacks, loggers, run_dir, info or {}, options, recorded)

    def fit(
        self,
        task: Task,
        data: Any = None,
        checkpoint: str | None = None,
        *,
        weights_only: bool = False,
    ) -> dict[str, float]:
        """Train a task to the end, resuming from the run directory's last checkpoint if it has one.

        Args:
            task: The task to train.
            data: A `Data`. Default: the return value of `task.build_data`.
            checkpoint: Start from the state of this one: `last`, `best`, a step or a path.
                Default: the run directory's last one, if any. A run that started from another
                run's checkpoint resumes from its own.
            weights_only: Take only the weights of `checkpoint`, where name and shape match, and
                start a new run with them.

        Returns:
            The latest value of every metric, such as `train/loss` and `val/accuracy`.

        Raises:
            UserError: The configuration, the data or the task's code is wrong, or another
                process is writing to the run directory.
            TrainingFailed: The loss became NaN, or an operation's result with `detect_anomaly`.
            KeyboardInterrupt: Ctrl-C was pressed; a checkpoint was saved.
            SystemExit: SIGTERM arrived; a checkpoint was saved, and the exit code is 143.
        """
        run = self._run
        rates = rates_of_new_run(run, task, data, checkpoint, weights_only=weights_only)
        with run.working("fit", task) as stage:
            fitting = run.assemble(data)
            start = resume_point(run, stage, fitting, checkpoint, weights_only=weights_only)
            with fitting.compiling(start) as loops:
                for loop in loops:
                    loop.trace()
            resume_from(start, run, fitting)
            use_rates(run, rates)
            del start  # it holds the arrays of a whole checkpoint
            with started(run, stage, fitting):
                while fitting.wants_epoch():
                    stage.call("on_epoch_start")
                    fitting.wakeup.handle_pending()
                    while fitting.wants_span():
                        stage.call("on_train_batch_start")
                        span = fitting.next_span()
                        with run.profile("steps"):
                            done = fitting.loop.run(*span)
                        fitting.advance(span, *done)
                        stage.call("on_train_batch_end")
                        fitting.wakeup.handle()
                    if run.status != "interrupted":
                        stage.call("on_epoch_end")
        return self.metrics

    def validate(
        self, task: Task, data: Any = None, checkpoint: str | None = None
    ) -> dict[str, float]:
        """Evaluate a task on its validation data.

        Args:
            task: The task to evaluate.
            data: A `Data`. Default: the return value of `task.build_data`.
            checkpoint: The weights to evaluate: `last`, `best`, a step or a path. Default: the
                weights that `fit` or a checkpoint gave the task in this process; for a task without
                such weights, the run's best checkpoint, else its last; without a run, the initial
                weights.

        Returns:
            Metrics by full name, such as `val/accuracy`.
        """
        with self._run.working("validate", task) as stage:
            return evaluated(self._run, stage, "val", data, checkpoint)

    def test(self, task: Task, data: Any = None, checkpoint: str | None = None) -> dict[str, float]:
        """Evaluate a task on its test data; see `validate`."""
        with self._run.working("test", task) as stage:
            return evaluated(self._run, stage, "test", data, checkpoint)

    def predict(self, task: Task, data: Any = None, checkpoint: str | None = None) -> Any:
        """Return the model's predictions for every example.

        Args:
            task: The task with the `predict_step` to use.
            data: A `Data`; its `predict`, else `test`, else `val` set is used.
            checkpoint: See `validate`.

        Returns:
            A nest of NumPy arrays, as `predict_step` returns it, with one row per example.
        """
        with self._run.working("predict", task) as stage:
            return predicted(self._run, stage, data, checkpoint)

    def lr_find(self, task: Task, data: Any = None, **options: Any) -> RateCurve:
        """Find a learning rate by a range test, which leaves task and data as they were.

        The options are those of `RangeTest`; and `checkpoint` and `weights_only`, as in `fit`.
        """
        return find_rate(self._run, task, data, **options)

    def stop(self, reason: str) -> None:
        """End training deliberately after the current wake-up.

        Args:
            reason: The reason, as a sentence for the log and `result.json`.
        """
        self._run.stop(reason)

    def save_checkpoint(
        self,
        *,
        wait: bool = True,
        judged: dict[str, Any] | None = None,
        permanent: bool = False,
        retention: Retention | None = None,
    ) -> Path | None:
        """Save the whole state of the run; see `RunView.save_checkpoint`."""
        about: dict[str, Any] = {"judged": judged, "permanent": permanent, "retention": retention}
        return self._run.save_checkpoint(wait=wait, **about)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log values, by full name, at the current step."""
        self._run.log_metrics(metrics)

    def state(self) -> State:
        """Return everything that changes during training and affects it.

        Raises:
            UserError: Nothing was fitted yet.
        """
        return self._run.state()

    def load_state(self, state: State) -> None:
        """Restore what `state` returned in the same `fit`."""
        self._run.load_state(state)

    def result(self) -> dict[str, Any]:
        """Return the content of `result.json`."""
        return self._run.result()

    # ---- read-only views of the run

    @property
    def view(self) -> RunView:
        """The run, as its callbacks see it."""
        return self._run

    @property
    def config(self) -> TrainerConfig:
        """The trainer's options."""
        return self._run.config

    @property
    def progress(self) -> Progress:
        """The training progress."""
        return self._run.progress

    @property
    def stage(self) -> str:
        """The current or the last stage: `fit`, `validate`, `test` or `predict`."""
        return self._run.stage

    @property
    def status(self) -> str:
        """`running`, `completed`, `stopped`, `interrupted` or `failed`."""
        return self._run.status

    @property
    def stop_reason(self) -> str:
        """The reason why the run ended, as a sentence; empty while it runs."""
        return self._run.stop_reason

    @property
    def metrics(self) -> dict[str, float]:
        """The latest value of every metric by full name; `train/…` is the last epoch's."""
        return self._run.metrics

    @property
    def best(self) -> dict[str, Any] | None:
        """The best checkpoint: step, metric, value."""
        return self._run.best

    @property
    def weights(self) -> dict[str, dict[str, Any]]:
        """The weights that each evaluation used, by `val`, `test` or `predict`.

        `last`, `best` (with its metric) or `initial`; the step; the average, if any.
        """
        return self._run.weights

    @property
    def engine(self) -> str:
        """How the training loop is compiled: `graph`, `step_xla`, `loop_xla` or `eager`."""
        return self._run.engine

    @property
    def run_dir(self) -> Path | None:
        """Where this process writes, or None where it writes nothing."""
        return self._run.run_dir

    @property
    def checkpoints(self) -> CheckpointStore | None:
        """The run's checkpoints, or None where this process keeps none."""
        return self._run.checkpoints

    @property
    def data_info(self) -> dict[str, Any]:
        """Where the data came from, and how many rows they have."""
        return self._run.data_info

    @property
    def already_complete(self) -> bool:
        """Whether `fit` found nothing left to do."""
        return self._run.already_complete

    @property
    def is_chief(self) -> bool:
        """Whether this process writes; only one of several workers does."""
        return self._run.is_chief

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks of the current or the last stage, in the order in which they are called."""
        return self._run.callbacks

    @property
    def optimizers(self) -> dict[str, keras.Optimizer]:
        """The optimizers by name; a single one is called `optimizer`. Empty before `fit`."""
        return self._run.optimizers

    @property
    def task(self) -> Task:
        """The task of the current or the last stage."""
        return self._run.task

    @property
    def profile(self) -> Profile:
        """How the wall time of the current stage is spent."""
        return self._run.profile

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of the current epoch, or None while that is unknown."""
        return self._run.steps_per_epoch

    @property
    def total_steps(self) -> int | None:
        """Planned optimizer steps in total, or None if unknown."""
        return self._run.total_steps
