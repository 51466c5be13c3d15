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
from framework.core.profile import Profile
from framework.core.progress import Progress
from framework.core.state import State
from framework.logger import Logger
from framework.run.judging import evaluated, predicted
from framework.run.run import Run
from framework.run.started import resume_from, resume_point, started
from framework.task import Task


class Trainer:
    """Trains, validates, tests and predicts with a task.

    Between two moments that somebody asked for (`log_every`, `val_every`, a callback's `every`)
    nothing happens in Python: the compiled loop runs the whole stretch.

    Example:
        >>> trainer = Trainer(max_epochs=5, precision="mixed_bfloat16", run_dir="runs/a")
        >>> trainer.fit(task, Data(train=(x, y), val_fraction=0.1))
        >>> trainer.test(task, Data(test=(x_test, y_test)))
        {'test/loss': 2.61, 'test/accuracy': 0.355}

    Args:
        callbacks: Added to the built-in ones and to the task's own.
        loggers: Where metrics go. They need a `run_dir`.
        run_dir: Where logs, checkpoints and `result.json` go; a run that was begun there is
            continued. Default: nothing is written.
        info: Further entries for `result.json`, such as the task's name in the configuration.
        **options: The fields of `framework.config.TrainerConfig`, such as `max_epochs`.

    Raises:
        UserError: An option that does not exist or is out of range.
    """

    def __init__(
        self,
        *,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Logger] = (),
        run_dir: str | Path | None = None,
        info: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._run = Run(callbacks, loggers, run_dir, info or {}, options)

    def fit(
        self,
        task: Task,
        data: Any = None,
        checkpoint: str | None = None,
        *,
        weights_only: bool = False,
    ) -> dict[str, float]:
        """Train a task, to the end or on from where its run directory stands.

        Args:
            task: What to learn.
            data: A `Data`. Default: what `task.build_data` returns.
            checkpoint: Begin with the state of this one: `last`, `best`, a step or a path.
                Default: the run directory's last one, if there is any. A run that was begun
                from another's checkpoint is continued from its own.
            weights_only: Take only the weights of `checkpoint`, where name and shape fit, and
                begin a new run with them.

        Returns:
            The latest value of every metric, such as `train/loss` and `val/accuracy`.

        Raises:
            UserError: The configuration, the data or the task's code is at fault, or another
                process is writing to the run directory.
            TrainingFailed: The loss became NaN, or an operation's result with `detect_anomaly`.
            KeyboardInterrupt: Ctrl-C, after a checkpoint was saved.
            SystemExit: SIGTERM, likewise, with code 143.
        """
        run = self._run
        with run.working("fit", task) as stage:
            fitting = run.assemble(data)
            start = resume_point(run, stage, fitting, checkpoint, weights_only=weights_only)
            with fitting.compiling(start) as loops:
                for loop in loops:
                    loop.trace()
            resume_from(start, run, fitting)
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
        """Judge a task on its validation data.

        Args:
            task: Whose model to judge.
            data: A `Data`. Default: what `task.build_data` returns.
            checkpoint: Whose weights: `last`, `best`, a step or a path. Default: those that this
                process has given to the task by `fit` or by a checkpoint; for a task that it has
                not, the run's best checkpoint, else its last; without a run, the initial ones.

        Returns:
            Metrics by full name, such as `val/accuracy`.
        """
        with self._run.working("validate", task) as stage:
            return evaluated(self._run, stage, "val", data, checkpoint)

    def test(self, task: Task, data: Any = None, checkpoint: str | None = None) -> dict[str, float]:
        """Judge a task on its test data; see `validate`."""
        with self._run.working("test", task) as stage:
            return evaluated(self._run, stage, "test", data, checkpoint)

    def predict(self, task: Task, data: Any = None, checkpoint: str | None = None) -> Any:
        """Return what the model says of every example.

        Args:
            task: Whose `predict_step` to use.
            data: A `Data`; its `predict`, else `test`, else `val` set is used.
            checkpoint: See `validate`.

        Returns:
            A nest of NumPy arrays, as `predict_step` gives, with one row for each example.
        """
        with self._run.working("predict", task) as stage:
            return predicted(self._run, stage, data, checkpoint)

    def stop(self, reason: str) -> None:
        """End training after the present wake-up, on purpose.

        Args:
            reason: Why, as a sentence for the log and `result.json`.
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
        return self._run.save_checkpoint(
            wait=wait, judged=judged, permanent=permanent, retention=retention
        )

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Give values, by full name, to the loggers at the present step."""
        self._run.log_metrics(metrics)

    def state(self) -> State:
        """Return everything that changes during training and influences it.

        Raises:
            UserError: Nothing was fitted yet.
        """
        return self._run.state()

    def load_state(self, state: State) -> None:
        """Take back what `state` returned of the same `fit`."""
        self._run.load_state(state)

    def result(self) -> dict[str, Any]:
        """Return what `result.json` holds."""
        return self._run.result()

    # ---- what there is to read of the run

    @property
    def view(self) -> RunView:
        """The run, as its callbacks see it."""
        return self._run

    @property
    def config(self) -> TrainerConfig:
        """The options."""
        return self._run.config

    @property
    def progress(self) -> Progress:
        """How far training has come."""
        return self._run.progress

    @property
    def stage(self) -> str:
        """`fit`, `validate`, `test` or `predict`: the present stage, or the last one."""
        return self._run.stage

    @property
    def status(self) -> str:
        """`running`, `completed`, `stopped`, `interrupted` or `failed`."""
        return self._run.status

    @property
    def stop_reason(self) -> str:
        """Why the run ended, as a sentence; empty while it runs."""
        return self._run.stop_reason

    @property
    def metrics(self) -> dict[str, float]:
        """The latest value of every metric by its full name; `train/…` is the last epoch's."""
        return self._run.metrics

    @property
    def best(self) -> dict[str, Any] | None:
        """The best checkpoint: step, metric, value."""
        return self._run.best

    @property
    def weights(self) -> dict[str, dict[str, Any]]:
        """Whose weights each evaluation has judged, by `val`, `test` or `predict`.

        `last`, `best` of which metric, or `initial`; of which step; by which average.
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
        """Where the data came from, and their rows."""
        return self._run.data_info

    @property
    def already_complete(self) -> bool:
        """Whether `fit` found nothing left to do."""
        return self._run.already_complete

    @property
    def is_chief(self) -> bool:
        """Whether this process writes; of several workers only one does."""
        return self._run.is_chief

    @property
    def callbacks(self) -> list[Callback]:
        """The callbacks of the present or the last stage, in the order in which they are called."""
        return self._run.callbacks

    @property
    def optimizers(self) -> dict[str, keras.Optimizer]:
        """The optimizers by name; a single one is called `optimizer`. Empty before `fit`."""
        return self._run.optimizers

    @property
    def task(self) -> Task:
        """The task of the present or the last stage."""
        return self._run.task

    @property
    def profile(self) -> Profile:
        """Where the wall time of the present stage goes."""
        return self._run.profile

    @property
    def steps_per_epoch(self) -> int | None:
        """Steps of the present epoch, or None while that is unknown."""
        return self._run.steps_per_epoch

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps planned in all, or None where that cannot be told."""
        return self._run.total_steps
