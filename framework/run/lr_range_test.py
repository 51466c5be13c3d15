"""Finds a learning rate by a range test (Smith, 2017), and leaves everything as it was."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.compat import learning_rate_of
from framework.core.user_code import user_code
from framework.data import Data
from framework.devices.replicas import Batch, Step, plain
from framework.errors import UserError, choice
from framework.loop.compiled import Loop, Span
from framework.run.fit_lifetime import resume_from
from framework.run.fitting import Fitting
from framework.run.rate_curve import RateCurve, diverged_at
from framework.run.resume import find_resume_point, prepare
from framework.run.run import Run
from framework.run.stage_context import Stage
from framework.schedules import is_scheduled
from framework.sources.copied import unread
from framework.step.metric_sums import Accumulator
from framework.step.optimizers import NamedOptimizer
from framework.step.runner import StepRunner
from framework.step_context import TaskRuntime
from framework.task import Task

_log = logging.getLogger("framework")

_PARTS = 10  # the host looks at the losses this often
_ROOM = 256  # values that a step may log


@dataclass(frozen=True)
class RangeTest:
    """The options of a range test.

    Args:
        min: The rate of the first step.
        max: The rate of the last step.
        steps: How many steps to run at most; the rate grows by the same factor at each.
        optimizer: The name of the optimizer whose rate grows. Default: the first.
        metric: The logged value to follow. Default: `loss`, or the first whose name contains it.
    """

    min: float = 1e-7
    max: float = 10.0
    steps: int = 100
    optimizer: str | None = None
    metric: str | None = None

    def __post_init__(self) -> None:
        for name in ("min", "max"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
                _refuse(name, value, "a number above 0")
        if not self.min < self.max < math.inf:
            _refuse("max", self.max, f"a number above lr_find.min, {self.min:g}")
        if type(self.steps) is not int or self.steps < 10:
            _refuse("steps", self.steps, "a number of steps, 10 or more")

    @classmethod
    def of(cls, options: Any) -> RangeTest:
        """Return the options from `True` or a mapping."""
        given = dict(options) if isinstance(options, Mapping) else {}
        known = [each.name for each in fields(cls)]
        for name in given:
            if name not in known:
                raise UserError(
                    f"a range test has no option {name!r}",
                    where=f"lr_find.{name}",
                    fix=choice(str(name), known),
                )
        return cls(**given)


def range_test(
    run: Run,
    task: Task,
    data: Any = None,
    options: RangeTest | None = None,
    *,
    checkpoint: str | None = None,
    weights_only: bool = False,
) -> RateCurve:
    """Run training steps with a growing learning rate, and put back whatever they changed.

    The steps are those that `fit` would begin with, without validation and callbacks. They run as
    one compiled loop, in which the rate of one optimizer grows instead of following a schedule;
    other optimizers keep theirs. The test ends when the loss is not finite or 4 times its minimum.

    Args:
        run: The run that `fit` would belong to. It does not change.
        task: The task. Afterwards, it is as it was before.
        data: See `Trainer.fit`.
        options: The rates and the number of steps. Default: 100 steps from 1e-7 to 10.
        checkpoint: See `Trainer.fit`; always a path here.
        weights_only: See `Trainer.fit`.

    Returns:
        The losses by rate.

    Raises:
        UserError: There is no such optimizer or value, or the task's code is wrong.
    """
    options = options or RangeTest()
    if run.config.strategy == "multi_worker":
        raise UserError(
            "a range test runs on one machine",
            where="trainer.strategy=multi_worker",
            fix="Find the rate on one of them, and give it: optimizer.learning_rate=<rate>.",
        )
    given = vars(run.config) | {"enable_checkpointing": False, "resume": "auto"}
    given |= {"engine": "graph"} if run.config.engine == "auto" else {}
    aside = Run(run.given_callbacks, (), None, {}, given)
    with _as_it_was(task), aside.working("lr_find", task) as stage:
        if data is None:
            with user_code(f"{type(task).__name__}.build_data"):
                data = task.build_data()
        fitting = aside.assemble(_unread(data))
        start = checkpoint and find_resume_point(
            aside.config,
            aside.checkpoints,
            checkpoint,
            identity=fitting.identity(),
            own=False,
            fits=stage.components.check_fits,
            weights_only=weights_only,
        )
        prepare(stage.components, start or None)
        before = stage.components.state()
        resume_from(start or None, aside, fitting)
        try:
            with stage.signals.deferred():
                return _Test(stage, fitting, task, options).run()
        finally:
            stage.components.load_state(before)


def suggested(curve: RateCurve, steps: int) -> float:
    """Return a curve's suggestion.

    Raises:
        UserError: The loss does not fall clearly.
    """
    if curve.suggestion is None:
        raise UserError(
            f"{curve.metric} does not fall at any rate from {curve.rates[0]:.1e} to "
            f"{curve.rates[-1]:.1e}, so there is none to suggest",
            where=f"the range test of {curve.optimizer!r}, {len(curve.rates)} steps",
            fix=f"See the curve with mode=lr_find; test longer, lr_find.steps={3 * steps}; or set "
            "optimizer.learning_rate yourself.",
        )
    return curve.suggestion


class _Test:
    """One range test in an open stage, whose models and optimizers are built."""

    def __init__(self, stage: Stage, fitting: Fitting, task: Task, options: RangeTest) -> None:
        assert stage.components.update is not None
        self._stage, self._options = stage, options
        optimizers = stage.components.update.optimizers
        self._names = tuple(each.name for each in optimizers)
        name = options.optimizer or self._names[0]
        self._optimizer: NamedOptimizer = optimizers.named(name)
        self._where = f"{type(task).__name__}.train_step"
        self._rates = np.geomspace(options.min, options.max, options.steps).astype(np.float32)
        self._seen = tf.Variable(np.zeros((options.steps, 2)), trainable=False, name="seen")
        self._rate = tf.Variable(self._rates[0], trainable=False, name="rate")
        self._metric = ""
        source = fitting.loop.source
        own = task.runtime.context
        assert isinstance(own, StepRunner)
        runner = own.taking(source.micro_rows, source.rows_axis)
        runner.train = self._sums = Accumulator(_ROOM)
        config = stage.components.config
        variant = "graph" if config.detect_anomaly and config.engine != "eager" else config.engine
        self._loop = Loop(source, runner.train_step, replicas=stage.replicas, variant=variant)
        self._loop.step = self._growing(self._loop.step)

    def run(self) -> RateCurve:
        with self._without_schedule():
            with user_code(self._where, self._loop.source.spec):
                self._loop.trace()
            losses = self._losses()
        rates = tuple(float(rate) for rate in self._rates[: len(losses)])
        name, metric = self._optimizer.name, self._metric
        return RateCurve(name, metric, rates, tuple(losses), self._names)

    def _losses(self) -> list[float]:
        """Run the steps, in a few calls of the loop, until the loss diverges."""
        source, sync = self._loop.source, self._stage.host_sync
        step, epoch, batch, losses = 0, 0, 0, list[float]()
        part = max(1, self._options.steps // _PARTS)
        while step < self._options.steps and diverged_at(losses) is None:
            stop = min(batch + min(part, self._options.steps - step), source.steps or 2**62)
            done = self._loop.run(Span(epoch, batch, stop, step))
            if not batch and not done.steps:
                raise UserError(
                    "the train set has no batches",
                    where="data.train",
                    fix="Provide at least one batch; check what selects them, such as a filter.",
                )
            step, batch = step + done.steps, batch + done.steps
            if done.ended or batch == source.steps:
                source.finished(epoch)
                epoch, batch = epoch + 1, 0
            losses = self._read(step)
            if sync.interrupted():
                break
        return losses

    def _read(self, steps: int) -> list[float]:
        """Return the means of the steps done, from the sums after each of them."""
        sums = np.diff(self._seen.numpy()[:steps], axis=0, prepend=np.zeros((1, 2)))
        with np.errstate(invalid="ignore", divide="ignore"):
            return [float(total / weight) for total, weight in sums]

    def _growing(self, step: Step) -> Step:
        """Return a step that first sets the rate, and then notes the sums of the loss."""
        rates = tf.constant(self._rates)
        rate = learning_rate_of(self._optimizer.optimizer)
        target = plain(rate) if isinstance(rate, keras.Variable) else self._rate

        def run(batch: Batch, global_step: Any) -> tf.Tensor:
            index = tf.cast(global_step, tf.int64)
            target.assign(tf.cast(tf.gather(rates, index), target.dtype))
            examples = step(batch, global_step)
            sums = self._sums.variables[0].read_value()
            row = sums[self._followed()][:2]
            self._seen.assign(tf.tensor_scatter_nd_update(self._seen, [[index]], [row]))
            return examples

        return run

    def _followed(self) -> int:
        """Return the row of the sums that holds the loss."""
        names, wanted = self._sums.names, self._options.metric
        likely = [n for n in names if n == "loss"] + [n for n in names if "loss" in n]
        found = wanted or next(iter(likely), None)
        if found not in names:
            raise UserError(
                f"the steps log no {wanted!r}" if wanted else "which value is the loss?",
                where=self._where,
                fix=f"Give lr_find.metric, one of: {', '.join(names)}."
                if names
                else 'Log one: self.log("loss", loss).',
            )
        self._metric = str(found)
        return names.index(self._metric)

    @contextmanager
    def _without_schedule(self) -> Iterator[None]:
        """Make a scheduled optimizer read its rate from a variable in the body."""
        optimizer = self._optimizer.optimizer
        if not is_scheduled(optimizer):
            yield
            return
        schedule, rate = learning_rate_of(optimizer), self._rate
        optimizer.learning_rate = lambda: tf.convert_to_tensor(rate)
        try:
            yield
        finally:
            optimizer.learning_rate = schedule


@contextmanager
def _as_it_was(task: Task) -> Iterator[None]:
    """Restore a task's attributes after the body. One that was never built is built only in it."""
    before = dict(vars(task))
    if task.model is None:
        vars(task)["_runtime"] = TaskRuntime()
        for name, value in before.items():
            if isinstance(value, keras.Optimizer) and not value.built:
                setattr(task, name, copy.deepcopy(value))
    try:
        yield
    finally:
        vars(task).clear()
        vars(task).update(before)


def _unread(data: Any) -> Any:
    return replace(data, train=unread(data.train)) if isinstance(data, Data) else data


def _refuse(name: str, value: object, wanted: str) -> None:
    raise UserError(f"lr_find.{name} is {value!r}", where=f"lr_find.{name}", fix=f"Give {wanted}.")
