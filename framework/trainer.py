"""`Trainer`: fit, validate, test, predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.callback import Callback
from framework.core.flat import flat
from framework.logger import Logger
from framework.run.fit_lifetime import resume_from, resume_point, started
from framework.run.found_rates import find_rate, rates_of_new_run, use_rates
from framework.run.judging import evaluated, predicted
from framework.run.rate_curve import RateCurve
from framework.run.run import Run
from framework.task import Task


class Trainer(Run):
    """Train, validate, test and predict with a task.

    Between two requested moments (`log_every`, `val_every`, a callback's `every`), nothing runs in
    Python: the compiled loop runs the whole span.

    Example:
        >>> trainer = Trainer(max_epochs=5, precision="mixed_bfloat16", run_dir="runs/a")
        >>> trainer.fit(task, Data(train=(x, y), val_fraction=0.1))
        >>> trainer.test(task, Data(test=(x_test, y_test)))
        {'test/loss': 2.61, 'test/accuracy': 0.355}

    A trainer also has all that callbacks see of a run: `trainer.metrics`, `trainer.status`,
    `trainer.save_checkpoint()` and the rest of `RunView`.

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

    Attributes:
        best: The best checkpoint: step, metric, value.
        weights: The weights that each evaluation used, by `val`, `test` or `predict`: `last`,
            `best` (with its metric) or `initial`; the step; the average, if any.

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
        super().__init__(callbacks, loggers, run_dir, info or {}, options, recorded)

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
        rates = rates_of_new_run(self, task, data, checkpoint, weights_only=weights_only)
        with self.working("fit", task) as stage:
            fitting = self.assemble(data)
            start = resume_point(self, stage, fitting, checkpoint, weights_only=weights_only)
            with fitting.compiling(start) as loops:
                for loop in loops:
                    loop.trace()
            resume_from(start, self, fitting)
            use_rates(self, rates)
            del start  # it holds the arrays of a whole checkpoint
            with started(self, stage, fitting):
                while fitting.wants_epoch():
                    stage.call("on_epoch_start")
                    fitting.wakeup.handle_pending()
                    while fitting.wants_span():
                        stage.call("on_train_batch_start")
                        span = fitting.next_span()
                        with self.profile("steps"):
                            done = fitting.loop.run(span)
                        fitting.advance(done)
                        stage.call("on_train_batch_end")
                        fitting.wakeup.handle()
                    if self.status != "interrupted":
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
        with self.working("validate", task) as stage:
            return evaluated(self, stage, "val", data, checkpoint)

    def test(self, task: Task, data: Any = None, checkpoint: str | None = None) -> dict[str, float]:
        """Evaluate a task on its test data; see `validate`."""
        with self.working("test", task) as stage:
            return evaluated(self, stage, "test", data, checkpoint)

    def predict(self, task: Task, data: Any = None, checkpoint: str | None = None) -> Any:
        """Return the model's predictions for every example.

        Args:
            task: The task with the `predict_step` to use.
            data: A `Data`; its `predict`, else `test`, else `val` set is used.
            checkpoint: See `validate`.

        Returns:
            A nest of NumPy arrays, as `predict_step` returns it, with one row per example.
        """
        with self.working("predict", task) as stage:
            return predicted(self, stage, data, checkpoint)

    def lr_find(self, task: Task, data: Any = None, **options: Any) -> RateCurve:
        """Find a learning rate by a range test, which leaves task and data as they were.

        The options are those of `RangeTest`; and `checkpoint` and `weights_only`, as in `fit`.
        """
        return find_rate(self, task, data, **options)
