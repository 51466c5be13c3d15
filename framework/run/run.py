"""The record of a run: what a trainer keeps between stages, and what callbacks see of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import keras

from framework.callback import Callback
from framework.callbacks.live_line import erase
from framework.checkpoint.retention import Retention
from framework.checkpoint.saver import Saver
from framework.checkpoint.store import CheckpointStore, KeepsNothing
from framework.config import TrainerConfig
from framework.core.profile import Profile
from framework.core.progress import Progress
from framework.core.signals import Signals
from framework.core.state import State
from framework.devices.select import prepare_devices
from framework.errors import UserError
from framework.logger import Histogram, Logger
from framework.run.check_given import check_attributes, check_listeners, with_wrapped
from framework.run.default_callbacks import with_defaults
from framework.run.fitting import Fitting
from framework.run.looking import Looking
from framework.run.metric_log import MetricLog
from framework.run.result import describe, laid_over, write_result
from framework.run.stage_context import Stage
from framework.run.stop_condition import StopCondition
from framework.task import Task
from framework.text.escape import hidden


class Run(Looking):
    """What a trainer keeps from stage to stage; implements `RunView`.

    Attributes:
        keeps: Whether the run has checkpoints, written by this process or by another one.
        saver: Writes the checkpoints.
        metric_log: Receives the metrics.
        stop_condition: How and why the run ends.
        place: The run directory's real path, whether or not this process writes there.
        active: The current stage, or the last one.
        fitting: The parts of the current or the last `fit`.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        loggers: Sequence[Logger],
        run_dir: str | Path | None,
        info: Mapping[str, Any],
        options: dict[str, Any],
        recorded: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
    ) -> None:
        run_dir = check_listeners(callbacks, loggers, run_dir)
        self.recorded = recorded
        self.config = self._options = TrainerConfig.of(options).effective()
        self._workers = prepare_devices(self.config)  # before any tensor exists
        self.is_chief = self._workers is None or self._workers.is_chief
        writes = run_dir is not None and self.is_chief and not self.config.fast_dev_run
        self.run_dir = run_dir if writes else None
        self.keeps = run_dir is not None and self.config.enable_checkpointing
        store = CheckpointStore if self.keeps and self.is_chief else KeepsNothing
        self.checkpoints: CheckpointStore = store((run_dir or Path()) / "checkpoints")
        self.saver = Saver(self.checkpoints)
        self.place = None if run_dir is None else os.path.realpath(run_dir)
        self.callbacks: list[Callback] = []
        self.progress, self.stage, self.profile = Progress(), "", Profile()
        self.data_info: dict[str, Any] = {}
        self.best: dict[str, Any] | None = None
        self.weights: dict[str, dict[str, Any]] = {}
        self.already_complete = self._busy = False
        self.given_callbacks, self._info = with_wrapped(callbacks), dict(info)
        self.stop_condition, self._signals = StopCondition(self.config), Signals()
        self.metric_log = MetricLog(
            loggers if self.run_dir else (), self.progress, lambda: self.saver.durable
        )
        self._task: Task | None = None
        self.active: Stage | None = None
        self.fitting: Fitting | None = None

    # ---- a stage

    @contextmanager
    def working(self, stage: str, task: Task) -> Iterator[Stage]:
        """Set up and tear down a stage: isolation, devices, signals, and the result at its end."""
        if not isinstance(task, Task):
            raise UserError(
                f"{task!r} is not a Task",
                where=f"Trainer.{stage}",
                fix="Give an instance of a subclass of framework.Task.",
            )
        check_attributes(task)
        if self._busy:
            raise UserError(
                f"{stage} was called while {self.stage} is running",
                where=f"Trainer.{stage}",
                fix="Call it afterwards, or use a second Trainer; trainer.stop(reason) ends fit.",
            )
        self.stage, self._task, task.trainer, self.profile = stage, task, self, Profile()
        if stage == "fit":
            self.data_info, self.fitting = {}, None
        self.config = self._options.for_task(type(task).__name__, needs_eager=task.needs_eager)
        former, self.stop_condition = self.stop_condition, StopCondition(self.config)
        given = [*with_wrapped(task.configure_callbacks()), *self.given_callbacks]
        logs = bool(self.metric_log.logger.loggers)
        self.callbacks = with_defaults(given, self.config, is_chief=self.is_chief, logs=logs)
        self.active = Stage(self, self._signals, self._workers, self.data_info)
        self._busy = True
        try:
            with self.active.opened(self.stop_condition):
                self.metric_log.train = self.active.train
                yield self.active
        finally:
            self._busy = False
            erase()  # an error may have come before the callback that drew it was told
            if stage != "fit" and self._trained and self.status == "completed":
                self.stop_condition = former  # a successful test does not change how training ended
            try:
                self._write_result()  # first: a logger may keep a copy
            finally:
                self.metric_log.close(self.status, self.best)
            task.runtime.context = task.runtime.open_batches = None
        self._leave_if_asked(self.active)

    def _leave_if_asked(self, stage: Stage) -> None:
        """End the program if a signal asked for it."""
        with ExitStack() as last:
            if (received := stage.host_sync.received) is not None:
                meet = partial(stage.replicas.compare, "the end", dict)
                # The chief queues the job again first: SLURM may end a step once a task has failed.
                last.callback(meet) if self.is_chief else meet()
            self._signals.raise_received(received)

    def assemble(self, data: Any) -> Fitting:
        """Set up everything for `fit` before anything runs or is written."""
        assert self.active is not None
        self.metric_log.latest, self.metric_log.measured = {}, {}
        self.best, self.weights = None, {}
        self.fitting = Fitting(
            self, self.active, self.metric_log, self.stop_condition, data, keeps=self.keeps
        )
        self.fitting.set_up()
        return self.fitting

    def state(self) -> State:
        """Return everything that changes during training and affects it."""
        return self._fitted().state()

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""
        self._fitted().load_state(state)

    def _fitted(self) -> Fitting:
        if self.fitting is None:
            raise UserError(
                "there is nothing to save yet",
                where="Trainer.save_checkpoint",
                fix="Call it in fit, from a callback or the task, or afterwards.",
            )
        return self.fitting

    @property
    def _trained(self) -> bool:
        return self.fitting is not None and self.fitting.examples > 0

    def _write_result(self) -> None:
        if self.run_dir is None or not self.run_dir.is_dir():
            return
        path = self.run_dir / "result.json"
        done = not self.already_complete if self.stage == "fit" else self._trained
        write_result(path, laid_over(path, self.result(), whole=self.progress.step > 0 and done))

    def result(self) -> dict[str, Any]:
        """Return the content of `result.json`."""
        fitting = self.fitting
        return {
            "status": self.status,
            "stop_reason": self.stop_reason,
            "task": type(self.task).__name__,
            **describe(self.config, self.progress),
            "engine": self.engine,
            "tuning": (fitting and fitting.tuner.report) or None,
            "found_rates": (fitting and fitting.found_rates) or None,
            "metrics": self.metrics,
            "best": self.best,
            "weights": self.weights,
            "data": self.data_info,
            "device": "" if self.active is None else self.active.replicas.device.strip("/"),
            "examples_per_second": fitting and fitting.examples_per_second,
            "time_in_steps": round(self.profile.share("steps"), 3),
            **self._info,
        }

    # ---- what callbacks read; see `RunView`

    @property
    def task(self) -> Task:
        if self._task is None:
            raise UserError(
                "the trainer has not run a task yet", where="Trainer.task", fix="Call it after fit."
            )
        return self._task

    @property
    def status(self) -> str:
        return self.stop_condition.status

    @property
    def stop_reason(self) -> str:
        return self.stop_condition.reason

    @property
    def validating(self) -> bool:
        return self.fitting is not None and self.fitting.wakeup.validating

    @property
    def has_validation(self) -> bool:
        return self.fitting is not None and self.fitting.has_validation

    @property
    def at_epoch_end(self) -> bool:
        return self.fitting is not None and self.fitting.epochs.over

    @property
    def optimizers(self) -> dict[str, keras.Optimizer]:
        return {} if self.updates is None else self.updates.optimizers

    @property
    def updates(self) -> Any:
        update = None if self.active is None else self.active.components.update
        return None if update is None else update.extras

    @property
    def engine(self) -> str:
        return self.config.engine if self.fitting is None else self.fitting.engine

    @property
    def engine_reason(self) -> str:
        return "" if self.fitting is None else self.fitting.tuner.reason

    @property
    def steps_per_epoch(self) -> int | None:
        return None if self.fitting is None else self.fitting.epochs.expected

    @property
    def total_steps(self) -> int | None:
        return None if self.fitting is None else self.fitting.epochs.total_steps()

    @property
    def metrics(self) -> dict[str, float]:
        return self.metric_log.latest

    @property
    def metric_names(self) -> set[str]:
        if self.config.engine == "eager" or self.fitting is None:
            return set()  # only some are known, and only when a run resumes
        return self.fitting.metric_names

    @property
    def recovers_from_overflow(self) -> bool:
        scale = None if self.active is None else self.active.components.loss_scale
        return scale is not None and float(scale.value) > 1.0

    @property
    def holds_state(self) -> bool:
        return self.fitting is not None and self.fitting.wakeup.final is not None

    def measured_at(self, name: str) -> int | None:
        return self.metric_log.measured.get(name)

    def keras_metric(self, name: str) -> Any:
        stage, _, rest = name.partition("/")
        train = self.metric_log.train.keras_metrics if stage == "train" else {}
        evaluated = {} if self.fitting is None else self.fitting.evaluator.keras_metrics
        found = train.get(rest.removesuffix("_epoch")) or evaluated.get(name)
        return found or (self.task.metrics or {}).get(rest.rpartition("/")[2])

    def steps_not_finite(self, name: str) -> int | None:
        if self.config.accumulates or self.active is None:
            return None
        devices = self.active.replicas.count  # each device counts
        return math.ceil(self.metric_log.not_finite.get(name, 0.0) / devices)

    def epoch_so_far(self) -> dict[str, float]:
        return self.metric_log.epoch_so_far()

    # ---- what callbacks ask for

    def stop(self, reason: str, *, status: str = "stopped") -> None:
        self.stop_condition.end(status, reason)

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        with self.profile("logging"):
            self.metric_log.log(metrics)

    def log_text(self, name: str, text: str) -> None:
        self.metric_log.logger.log_text(name, hidden(text), self.progress.step)

    def log_images(self, name: str, images: Any) -> None:
        self.metric_log.logger.log_images(name, images, self.progress.step)

    def log_figure(self, name: str, figure: Any) -> None:
        self.metric_log.logger.log_figure(name, figure, self.progress.step)

    def log_histograms(self, histograms: Mapping[str, Histogram]) -> None:
        self.metric_log.logger.log_histograms(histograms, self.progress.step)

    def log_graph(self, graph: Callable[[], Any]) -> None:
        self.metric_log.logger.log_graph(graph)

    def log_artifact(self, path: Path) -> None:
        self.metric_log.logger.log_artifact(path)

    def save_checkpoint(
        self, *, wait: bool = True, retention: Retention | None = None, **about: Any
    ) -> Path | None:
        if not self.keeps or self.stop_condition.broken:
            return None
        fitting = self._fitted()
        with self.profile("saving"):
            self.saver.wait()  # two states are never held at once
            # All workers must take part in reading metrics; only one writes.
            state = fitting.wakeup.final or fitting.state()
            if not self.is_chief:
                return None
            return self.saver.save(self.progress.step, state, retention, wait=wait, **about)

    def note_best(self, best: dict[str, Any] | None) -> None:
        self.best = best

    def hold_state(self) -> None:
        if self.keeps and not self.stop_condition.broken and self.fitting is not None:
            wakeup = self.fitting.wakeup
            wakeup.final = wakeup.final or self.fitting.state()

    def recompile(self) -> None:
        if self.fitting is not None:
            self.fitting.recompile()

    def add_average(self, name: str, average: Any) -> None:
        if self.active is not None:
            self.active.components.add_average(name, average)
