"""The parts of a running `fit`: its data, loops, epochs and wake-ups."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from framework.callback import RunView
from framework.core.codec import same
from framework.core.models_by_name import models_of
from framework.core.progress import Progress
from framework.core.state import State
from framework.core.user_code import user_code
from framework.every import Every
from framework.loop.compiled import Done, Loop, Span
from framework.loop.tuning import Tuner
from framework.run.agreement import of_built, of_data
from framework.run.epoch_position import Epochs
from framework.run.metric_log import MetricLog
from framework.run.resume import (
    ResumePoint,
    check_data,
    identity,
    prepare,
    warn_about_unsaved_draws,
)
from framework.run.stage_context import Stage
from framework.run.stop_condition import StopCondition
from framework.run.wakeup_plan import Triggers, WakeupPlan
from framework.run.wakeup_work import Wakeup
from framework.schedules import bind_schedules
from framework.sources.source import Source


class Fitting:
    """The parts of a `fit`. Setting them up writes nothing.

    Attributes:
        has_validation: Whether there is any data to validate on.
        epochs: The position within the epochs.
        evaluator: Evaluates the validation data.
        tuner: Finds the fastest variant of the loop.
        wakeup: Does the work of a wake-up.
        started_from: The checkpoint that the run started from, as requested.
        examples: Training examples of this process.
        step_seconds: The duration of the steps.
    """

    def __init__(
        self,
        run: RunView,
        stage: Stage,
        metric_log: MetricLog,
        stop_condition: StopCondition,
        data: Any,
        *,
        keeps: bool,
    ) -> None:
        self._run, self._stage, self._metric_log = run, stage, metric_log
        self._stop_condition, self._keeps = stop_condition, keeps
        self.started_from: str | None = None
        self.found_rates: dict[str, float] = {}  # see `auto_lr`
        self.examples, self.step_seconds, self._began = 0, 0.0, 0.0
        config, components = run.config, stage.components
        with run.profile("data"):
            train, val = components.open_fit(data)
        stage.replicas.compare("the data", lambda: of_data("train", train) | of_data("val", val))
        self._check_sources(train)
        source = next(iter(train.values()))
        with run.profile("building"):
            engine = components.engine_for({"": source}, "train_step", metric_log.train)
        models, replicas, step = models_of(run.task.model), stage.replicas, engine.taking
        replicas.compare("the models", lambda: of_built(models, run.optimizers))
        self._loops = {
            batches: Loop(each, step(each.micro_rows, each.rows_axis).train_step, replicas=replicas)
            for batches, each in train.items()
        }
        run.progress.load_state(Progress().state())
        self.epochs = Epochs(config, run.progress, self._loops)
        self.has_validation = bool(val) and config.val_every is not None
        self.evaluator = stage.make_evaluator(engine, val, "val")
        self.tuner = Tuner(config, engine, self._loops, planned=self.epochs.total_steps())
        self._triggers = Triggers({}, stage.host_sync.now)
        self.wakeup = Wakeup(
            run,
            stage,
            stop_condition,
            metric_log,
            self.epochs,
            self._triggers,
            self.evaluator,
            self.state,
        )
        self._plan = WakeupPlan([])

    def _check_sources(self, train: Mapping[int, Source]) -> None:
        run, stage = self._run, self._stage
        if self._keeps:
            check_data(next(iter(train.values())), run.config)
        for each in train.values():
            each.check = stage.signals.raise_received  # type: ignore[method-assign]
            if run.config.profiler == "simple" and stage.replicas.count == 1:
                each.time_waits()

    def set_up(self) -> None:
        """Call `on_setup`, and record at which steps a listener needs the host."""
        config, call = self._run.config, self._stage.call
        # Schedules count updates, and a step with manual optimization may make any number.
        planned = self.epochs.total_steps() if self._run.task.automatic_optimization else None
        bind_schedules(self._run.optimizers, planned, self.epochs.length)
        call.begin()
        call("on_setup")
        self._stage.components.written = self._written
        if self._keeps:
            for loop in self._loops.values():
                loop.on_write = self._check_written
            self.evaluator.on_write(self._check_written)
        every: dict[str, Every | None] = {"log": Every(config.log_every)}
        every["val"] = (
            Every(config.val_every) if config.val_every and self.evaluator.has_data else None
        )
        every |= {name: callback.every for name, callback in call.named.items()}
        self._triggers.listen(every)
        every_batch = call.every_batch or config.detect_anomaly
        self._plan = WakeupPlan(self._triggers.all(), every_batch=every_batch)

    @contextmanager
    def compiling(self, start: ResumePoint | None) -> Iterator[Iterable[Loop]]:
        """Trace the training steps in the body, and find the fastest variant afterwards.

        First, load what the steps treat as constant; the evaluation step is traced as well.
        """
        self.tuner.begin(kept=None if start is None else start.engine)
        prepare(self._stage.components, start)
        where = f"{type(self._run.task).__name__}.train_step"
        with self._run.profile("compiling"):
            self.evaluator.trace()
            spec = next(iter(self._loops.values())).source.spec
            with user_code(where, spec):
                yield self._loops.values()
            self.tuner.finish()
        if self._keeps:
            warn_about_unsaved_draws(self._loops.values())
            self._check_written()

    # ---- the loop

    @property
    def loop(self) -> Loop:
        """The compiled loop of the current epoch."""
        return self.epochs.loop

    def wants_epoch(self) -> bool:
        """Whether to run another epoch, or the rest of the current one; starts it if so."""
        if self.wakeup.is_over():
            return False
        self.epochs.begin()
        if self._run.progress.batch == 0:
            self._metric_log.start_epoch()
        return True

    def wants_span(self) -> bool:
        """Whether part of the current epoch is left to run."""
        return not (self.epochs.over or self._stop_condition.reason)

    def next_span(self) -> Span:
        """Return the next span: up to the next step at which a listener needs the host."""
        progress = self._run.progress
        stop = self._stage.host_sync.nearest(self.epochs.next_stop(self._plan))
        last = progress.batch + stop - progress.step
        self._began = time.perf_counter()
        return Span(progress.epoch, progress.batch, last, progress.step)

    def advance(self, done: Done) -> None:
        """Record the result of a span."""
        run, host_sync = self._run, self._stage.host_sync
        seconds = host_sync.beat(time.perf_counter() - self._began)
        self._plan.measured(done.steps, seconds)
        run.progress.seconds = host_sync.now() - self.started
        self.examples += done.examples
        self.step_seconds += seconds
        run.profile.move(self.loop.source.waited(), "steps", "data")
        self.epochs.advance(done.steps, done.examples, ended=done.ended)

    def start_clock(self) -> None:
        """Start timing the run, added to the time that it took before."""
        self.started = self._stage.host_sync.now() - self._run.progress.seconds

    # ---- what is compiled

    @property
    def engine(self) -> str:
        """How the training loop is compiled."""
        return next(iter(self._loops.values())).variant

    @property
    def examples_per_second(self) -> float | None:
        """The speed of the training steps."""
        return round(self.examples / self.step_seconds, 1) if self.step_seconds else None

    @property
    def metric_names(self) -> set[str]:
        """The full names of the values that the compiled steps log."""
        train = {f"train/{name}" for name in self._metric_log.train.names}
        return train | {f"{name}_epoch" for name in train} | self.evaluator.names

    def recompile(self) -> None:
        """Have the training step compiled again."""
        for loop in self._loops.values():
            loop.forget()
        if not self._run.task.automatic_optimization:  # its evaluation may also train
            self.evaluator.forget()

    def _check_written(self) -> None:
        internal = [*self._metric_log.train.variables, *self.evaluator.internal]
        self._stage.components.check_written(internal)

    def _written(self) -> dict[int, str]:
        """Return the variables that the compiled steps write, by handle."""
        found: dict[int, str] = dict(self.evaluator.written)
        for loop in self._loops.values():
            found |= loop.written
        return found

    # ---- the state

    @property
    def _parts(self) -> dict[str, Any]:
        return {
            "progress": self._run.progress,
            "ending": self._stop_condition,
            "epochs": self.epochs,
            "timers": self._triggers,
            "logbook": self._metric_log,
            "callbacks": self._stage.call,
        }

    def identity(self) -> dict[str, Any]:
        """Return the options that affect the result of the run, as checkpoints store them."""
        return identity(self._run.config) | dict(self._stage.components.made_optimizers)

    def data_state(self, epoch: int) -> State:
        """Return the facts that show whether a run resumes on the same data."""
        rows = self._run.data_info.get("train_rows")
        return {"rows": rows, "steps": self.epochs.steps_in(epoch)}

    def state(self) -> State:
        """Return everything that changes during training and affects it."""
        return {
            "engine": self.engine,
            "config": self.identity(),
            "begun_from": self.started_from,
            "closing": {},  # see `Wakeup`
            "data": self.data_state(self._run.progress.epoch),
            **{name: part.state() for name, part in self._parts.items()},
            **self._stage.components.state(),
        }

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""
        components = self._stage.components
        before = components.constants()
        components.load_state(state)
        self._forget_if_changed(before)
        for name, part in self._parts.items():
            part.load_state(state[name])
        self.wakeup.closing = dict(state["closing"])
        self.started_from = self.started_from or state.get("begun_from")

    def load_fitting(self, state: State) -> list[tuple[str, str]]:
        """Load the weights that fit; see `Components.load_fitting`."""
        before = self._stage.components.constants()
        report = self._stage.components.load_fitting(state)
        self._forget_if_changed(before)
        return report

    def _forget_if_changed(self, constants: State) -> None:
        if not same(constants, self._stage.components.constants()):
            for loop in self._loops.values():
                loop.forget()
            self.evaluator.forget()
