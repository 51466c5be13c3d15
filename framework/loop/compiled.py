"""The compiled loop: many steps per call from the host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, NamedTuple

import tensorflow as tf

from framework.core.graphs import operations
from framework.core.user_code import labels_checked
from framework.devices.replicas import Batch, Replicas, Step
from framework.loop.variants import (
    CannotCompile,
    cannot_compile,
    check_lowering,
    check_operations,
    check_place,
    draws_by_itself,
)
from framework.loop.written_variables import recorded, written
from framework.sources.source import Source, batch_rows

_log = logging.getLogger("framework")


class Span(NamedTuple):
    """A part of an epoch: its batches [start, stop).

    Attributes:
        epoch: The epoch, counted from 0.
        start: The first batch, counted from 0.
        stop: The batch after the last.
        global_step: Optimizer steps done before batch `start`.
    """

    epoch: int
    start: int
    stop: int
    global_step: int = 0


class Done(NamedTuple):
    """What the loop did of a span: how many steps and examples, and whether the data ended."""

    steps: int
    examples: int
    ended: bool


class Loop:
    """Run a step over a span, in one call.

    No Python runs within a call: a `tf.while_loop` reads batches and runs steps. A span is split
    where the shape of a batch changes, so that each trace has static shapes; there are at most
    two traces. The result is bit-identical however an epoch is split into spans.

    Example:
        >>> loop = Loop(source, engine.train_step)
        >>> loop.run(Span(epoch=0, start=0, stop=100))
        Done(steps=100, examples=3200, ended=False)

    Args:
        source: The source of batches.
        step: The body of the loop: `StepRunner.train_step` or `StepRunner.eval_step`.
        replicas: The devices that share each step. Default: one.
        variant: How to compile it: `graph`; `step_xla`, each step with XLA; `loop_xla`, the whole
            loop with XLA; or `eager`, not at all, for breakpoints. If XLA cannot compile it, it
            runs as `graph`, and a warning says why.
        strict: Raise `CannotCompile` instead of that warning.
        advances: Each batch is an optimizer step, which the next one has behind it.

    Attributes:
        step: The step for all devices.
        variant: The variant that is actually compiled.
    """

    def __init__(
        self,
        source: Source,
        step: Step,
        *,
        replicas: Replicas | None = None,
        variant: str = "graph",
        strict: bool = False,
        advances: bool = True,
    ) -> None:
        self.source, self.variant, self.strict = source, variant, strict
        self._advances = advances
        self._replicas = replicas or Replicas("")
        self.step = self._replicas.spread(step, source.rows_axis)
        # One function per batch shape, called without tf.function's dispatch.
        self._runs: dict[int | None, Callable[[Any, tf.Tensor], tf.Tensor]] = {}
        self._written: dict[int | None, dict[int, str]] = {}
        # Called if steps run in Python and a step writes something for the first time.
        self.on_write: Callable[[], None] = lambda: None

    def run(self, span: Span) -> Done:
        """Run the batches of a span, or fewer if the data ends."""
        at, examples = span.start, 0
        before = span.global_step - span.start * self._advances
        for first, last, size in self.source.parts(span.start, span.stop):
            if size not in self._runs:
                self.trace(last)
            cursor = self.source.cursor(span.epoch, first)
            # One vector in and one out, since each transfer to or from the device has a cost.
            bounds = tf.constant([first, last, before], tf.int64)
            cut = self._replicas.count > 1 or self.source.micro_rows is not None
            with labels_checked(cut=cut), self.source.reading():
                at, rows = self._runs[size](cursor, bounds).numpy().tolist()
                if at == 0 and self.source.renew(span.epoch):
                    cursor = self.source.cursor(span.epoch, first)
                    at, rows = self._runs[size](cursor, bounds).numpy().tolist()
            examples += rows
            self.source.moved(at)
            if at < last:
                break
        return Done(at - span.start, examples, ended=at < span.stop)

    def trace(self, stop: int | None = None) -> None:
        """Compile for the shapes of an epoch's first `stop` batches, without running a step."""
        try:
            check_place(self.variant, self.source, self._replicas)
            for first, _, size in self.source.parts(0, stop or self.source.steps or 1):
                run, cursor = self._uncompiled(size), self.source.cursor(0, first)
                if self.variant != "eager":
                    run = run.get_concrete_function(cursor, tf.TensorSpec([3], tf.int64))
                if self.variant == "loop_xla":
                    check_operations(run.graph)
                    with cannot_compile():  # XLA compiles at the first call, here with no step
                        run(cursor, tf.zeros([3], tf.int64))
                self._runs[size] = run
                if self.variant != "eager":
                    self._written[size] = written(run)
        except CannotCompile as reason:
            if self.strict:
                raise
            _log.warning("engine=graph instead of %s: %s", self.variant, reason)
            self.variant = "graph"
            self.trace(stop)

    @property
    def variables(self) -> list[tf.Variable]:
        """Every variable that the compiled steps read or write."""
        compiled = [run for run in self._runs.values() if hasattr(run, "variables")]
        return list({id(v): v for run in compiled for v in run.variables}.values())

    @property
    def written(self) -> dict[int, str]:
        """What the compiled steps write, by handle; see `written.written`."""
        return {key: name for each in self._written.values() for key, name in each.items()}

    def check_repeatable(self) -> None:
        """Raise `CannotCompile` if compiled steps change more than variables."""
        for run in self._runs.values():
            check_operations(run.graph)  # type: ignore[attr-defined]

    @property
    def random_operations(self) -> set[str]:
        """The types of the operations that draw random numbers from their own state."""
        graphs = [run.graph for run in self._runs.values() if hasattr(run, "graph")]
        found = (each for graph in graphs for each in operations(graph))
        return {each.type for each in found if draws_by_itself(each)}

    def count(self, kind: str) -> int:
        """Return the number of operations in the compiled steps of a type with prefix `kind`."""
        runs = self._runs.values()
        return sum(each.type.startswith(kind) for run in runs for each in operations(run.graph))  # type: ignore[attr-defined]

    def forget(self) -> None:
        """Compile again at the next run."""
        self._runs.clear()  # but keep what they write until they are compiled again

    def _uncompiled(self, size: int | None) -> Any:
        """Return the function to compile for batches of `size` rows."""
        step = self._jitted(size) if self.variant == "step_xla" else self.step
        steps = partial(self._steps, size, step)
        if self.variant == "eager":
            return steps
        whole = self.variant == "loop_xla"
        return tf.function(steps, autograph=False, jit_compile=whole or None)

    def _jitted(self, size: int | None) -> Step:
        """Return the step compiled with XLA, which receives a batch that is read outside it."""

        def step(values: Any, global_step: Any, number: Any) -> None:
            self.step(self._batch(values, size, number), global_step)

        number = tf.TensorSpec([], tf.int64)
        compiled = tf.function(step, autograph=False, jit_compile=True)
        compiled = compiled.get_concrete_function(self.source.spec(size), number, number)
        check_operations(compiled.graph)
        check_lowering(compiled)

        def run(batch: Batch, global_step: Any) -> tf.Tensor:
            compiled(batch.values, global_step, batch.number)
            return tf.cast(batch.rows, tf.int64)

        return run

    def _steps(self, size: int | None, step: Step, cursor: Any, bounds: tf.Tensor) -> tf.Tensor:
        start, stop, before = tf.unstack(bounds)

        def body(index: Any, examples: Any, _: Any) -> Any:
            values = self.source.read(cursor, index, size)
            batch = self._batch(values, size, index)
            rows = step(batch, before + index if self._advances else before)
            return index + 1, examples + rows, tf.constant(True)

        def body_if_any(index: Any, examples: Any, _: Any) -> Any:
            following = self.source.taken(cursor, optional=True)
            more = following.has_value()

            def take() -> Batch:
                values = self.source.finish(following.get_value(), index)
                return self._batch(values, None, index)

            # The step takes it: a function around both would be one frame more in every traceback.
            batch: Any = _OptionalBatch(take)
            done = before + index if self._advances else before
            rows = tf.cond(more, partial(step, batch, done), lambda: tf.zeros((), tf.int64))
            return index + tf.cast(more, tf.int64), examples + rows, more

        if self.source.steps is None or self.source.may_end:
            body = body_if_any
        state: Any = start, tf.zeros((), tf.int64), tf.constant(True)
        if self.variant == "eager":
            noted = self._written.setdefault(None, {})
            while state[2] and state[0] < stop:
                before_it = len(noted)
                with recorded(noted):
                    state = body(*state)
                if len(noted) > before_it:
                    self.on_write()
        else:
            state = tf.while_loop(
                lambda index, _, more: tf.logical_and(more, index < stop), body, state
            )
        return tf.stack(state[:2])

    def _batch(self, values: Any, size: int | None, number: Any) -> Batch:
        rows = batch_rows(values, self.source.rows_axis) if size is None else size
        return Batch(values, rows, rows, number)


class _OptionalBatch:
    """A `Batch` that is taken when a step first reads it: on the branch where there is one."""

    def __init__(self, take: Callable[[], Batch]) -> None:
        self._take = take

    @cached_property
    def _taken(self) -> Batch:
        return self._take()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._taken, name)
