"""The parts of a running `fit`: its data, loops, epochs and wake-ups."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from framework.callback import RunView
from framework.core.codec import same
from framework.core.models import models_of
from framework.core.progress import Progress
from framework.core.state import State
from framework.core.user_code import user_code
from framework.every import Every
from framework.loop.compiled import Loop
from framework.loop.evaluation import Evaluator
from framework.loop.tuning import Tuner
from framework.run.agreement import of_built, of_data
from framework.run.epochs import Epochs
from framework.run.metric_log import Logbook
from framework.run.resume import Earlier, check_data, identity, prepare, warn_of_chance
from framework.run.stage import Session
from framework.run.stop_condition import Ending
from framework.run.wakeup import Wakes
from framework.run.wakeup_plan import Schedule, Timers
from framework.schedules import bind_schedules
from framework.sources.source import Source


class Span(NamedTuple):
    """What the compiled loop runs for one call: batches [start, stop) of an epoch."""

    epoch: int
    start: int
    stop: int
    global_step: int


class Fitting:
    """What a `fit` is made of; nothing is written while it is put together.

    Example:
        >>> fitting = Fitting(run, stage, metric_log, stop_condition, data, keeps=True)
        >>> fitting.set_up()
        >>> fitting.compile(None)
        >>> fitting.loop.run(*fitting.next_span())

    Args:
        run: The run, as its callbacks see it.
        session: The stage at work.
        logbook: Where metrics go.
        ending: Tells whether the run is at an end.
        data: What to train on; see `Trainer.fit`.
        keeps: Whether it has checkpoints.

    Attributes:
        has_validation: Whether there is anything to validate on.
        epochs: Where it stands among its epochs.
        evaluator: Of the validation data.
        tuner: Finds the fastest variant of the loop.
        wakeup: What is done when the host is needed.
        begun_from: The checkpoint that it began with, as it was asked for.
        examples: Training examples of this process.
        step_seconds: How long its steps took.
    """

    def __init__(
        self,
        run: RunView,
        session: Session,
        logbook: Logbook,
        ending: Ending,
        data: Any,
        *,
        keeps: bool,
    ) -> None:
        self._run, self._session, self._logbook = run, session, logbook
        self._ending, self._keeps = ending, keeps
        self.begun_from: str | None = None
        self.examples, self.step_seconds, self._began = 0, 0.0, 0.0
        config, setup = run.config, session.setup
        with run.profile("data"):
            train, val = setup.open_fit(data)
        session.replicas.compare("the data", lambda: of_data("train", train) | of_data("val", val))
        self._check_sources(train)
        source = next(iter(train.values()))
        with run.profile("building"):
            self._engine = setup.engine_for({"": source}, "train_step", logbook.train)
        models = models_of(run.task.model)
        session.replicas.compare("the models", lambda: of_built(models, run.optimizers))
        self._loops = {
            batches: Loop(
                each,
                self._engine.taking(each.micro_rows, each.rows_axis).train_step,
                replicas=session.replicas,
            )
            for batches, each in train.items()
        }
        run.progress.load_state(Progress().state())
        self.epochs = Epochs(config, run.progress, self._loops)
        self.has_validation = bool(val) and config.val_every is not None
        self.evaluator = Evaluator(
            self._engine,
            val,
            "val",
            variant=session.eval_variant,
            pulse=session.pulse,
            undrawn=setup.undrawn,
        )
        self.tuner = Tuner(config, self._engine, self._loops, planned=self.epochs.total_steps())
        self._timers = Timers({}, session.pulse.now)
        self.wakeup = Wakes(
            run, session, ending, logbook, self.epochs, self._timers, self.evaluator, self.state
        )
        self._plan = Schedule([])

    def _check_sources(self, train: Mapping[int, Source]) -> None:
        run, session = self._run, self._session
        if self._keeps:
            check_data(next(iter(train.values())), run.config)
        for each in train.values():
            each.check = session.signals.raise_received  # type: ignore[method-assign]
            if run.config.profiler == "simple" and session.replicas.count == 1:
                each.time_waits()

    def set_up(self) -> None:
        """Call `on_setup`, and note at which steps somebody needs the host."""
        config, call = self._run.config, self._session.call
        # By hand a step may make any number of updates, which is what schedules count.
        planned = self.epochs.total_steps() if self._run.task.automatic_optimization else None
        bind_schedules(self._run.optimizers, planned, self.epochs.length)
        call.begin()
        call("on_setup")
        self._session.setup.written = self._written
        if self._keeps:
            for loop in self._loops.values():
                loop.on_write = self._check_written
            self.evaluator.on_write(self._check_written)
        every: dict[str, Every | None] = {"log": Every(config.log_every)}
        every["val"] = Every(config.val_every) if config.val_every and self.has_data else None
        every |= {name: callback.every for name, callback in call.named.items()}
        self._timers.listen(every)
        every_batch = call.every_batch or config.detect_anomaly
        self._plan = Schedule(self._timers.all(), every_batch=every_batch)

    @property
    def has_data(self) -> bool:
        """Whether there are validation data, wanted or not."""
        return self.evaluator.has_data

    def compile(self, earlier: Earlier | None) -> None:
        """Trace every step, with what it takes for constant, and find the fastest variant.

        Args:
            earlier: The checkpoint that the run begins with, if any.
        """
        self.tuner.begin(kept=None if earlier is None else earlier.engine)
        prepare(self._session.setup, earlier)
        where = f"{type(self._run.task).__name__}.train_step"
        with self._run.profile("compiling"):
            self.evaluator.trace()
            for loop in self._loops.values():
                with user_code(where, loop.source.spec):
                    loop.trace()
            self.tuner.finish()
        if self._keeps:
            warn_of_chance(self._loops.values())
            self._check_written()

    # ---- the loop

    @property
    def loop(self) -> Loop:
        """The compiled loop of the present epoch."""
        return self.epochs.loop

    def wants_epoch(self) -> bool:
        """Tell whether another epoch is to be run, or the present one to its end; begin it."""
        if self.wakeup.is_over():
            return False
        self.epochs.begin()
        if self._run.progress.batch == 0:
            self._logbook.start_epoch()
        return True

    def wants_span(self) -> bool:
        """Tell whether more of the epoch is to be run."""
        return not (self.epochs.over or self._ending.reason)

    def next_span(self) -> Span:
        """Return what to run now: up to the next step at which somebody needs the host."""
        progress = self._run.progress
        stop = self._session.pulse.nearest(self.epochs.next_stop(self._plan))
        last = progress.batch + stop - progress.step
        self._began = time.perf_counter()
        return Span(progress.epoch, progress.batch, last, progress.step)

    def advance(self, span: Span, steps: int, examples: int) -> None:
        """Note what came of a span.

        Args:
            span: What was to be run.
            steps: Optimizer steps that it made.
            examples: Training examples that it saw.
        """
        run, pulse = self._run, self._session.pulse
        seconds = pulse.beat(time.perf_counter() - self._began)
        self._plan.measured(steps, seconds)
        run.progress.seconds = pulse.now() - self.started
        self.examples += examples
        self.step_seconds += seconds
        run.profile.move(self.loop.source.waited(), "steps", "data")
        self.epochs.advance(steps, examples, ended=span.start + steps < span.stop)

    def start_clock(self) -> None:
        """Count the time of the run from now on, and what it took before."""
        self.started = self._session.pulse.now() - self._run.progress.seconds

    # ---- what is compiled

    @property
    def engine(self) -> str:
        """How the training loop is compiled."""
        return next(iter(self._loops.values())).variant

    @property
    def metric_names(self) -> set[str]:
        """The full names of what the compiled steps log."""
        train = {f"train/{name}" for name in self._logbook.train.names}
        return train | {f"{name}_epoch" for name in train} | self.evaluator.names

    def recompile(self) -> None:
        """Have the training step compiled again."""
        for loop in self._loops.values():
            loop.forget()
        if not self._run.task.automatic_optimization:  # its evaluation may train as well
            self.evaluator.forget()

    def _check_written(self) -> None:
        internal = [*self._logbook.train.variables, *self.evaluator.internal]
        self._session.setup.check_written(internal)

    def _written(self) -> dict[int, str]:
        """Return what the compiled steps write, by handle."""
        found: dict[int, str] = dict(self.evaluator.written)
        for loop in self._loops.values():
            found |= loop.written
        return found

    # ---- the state

    @property
    def _parts(self) -> dict[str, Any]:
        return {
            "progress": self._run.progress,
            "ending": self._ending,
            "epochs": self.epochs,
            "timers": self._timers,
            "logbook": self._logbook,
            "callbacks": self._session.call,
        }

    def identity(self) -> dict[str, Any]:
        """Return what decides what the run computes, as checkpoints hold it."""
        return identity(self._run.config) | dict(self._session.setup.made_optimizers)

    def data_state(self, epoch: int) -> State:
        """Return what tells whether a run is continued on the same data."""
        rows = self._run.data_info.get("train_rows")
        return {"rows": rows, "steps": self.epochs.steps_in(epoch)}

    def state(self) -> State:
        """Return everything that changes during training and influences it."""
        return {
            "engine": self.engine,
            "config": self.identity(),
            "begun_from": self.begun_from,
            "closing": {},  # metrics that were measured only because the run ended
            "data": self.data_state(self._run.progress.epoch),
            **{name: part.state() for name, part in self._parts.items()},
            **self._session.setup.state(),
        }

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""
        setup = self._session.setup
        before = setup.constants()
        setup.load_state(state)
        self._forget_if_changed(before)
        for name, part in self._parts.items():
            part.load_state(state[name])
        self.wakeup.closing = dict(state["closing"])
        self.begun_from = self.begun_from or state.get("begun_from")

    def load_fitting(self, state: State) -> list[tuple[str, str]]:
        """Take over the weights that fit; see `Components.load_fitting`."""
        before = self._session.setup.constants()
        report = self._session.setup.load_fitting(state)
        self._forget_if_changed(before)
        return report

    def _forget_if_changed(self, constants: State) -> None:
        if not same(constants, self._session.setup.constants()):
            for loop in self._loops.values():
                loop.forget()
            self.evaluator.forget()
