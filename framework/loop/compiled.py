"""The compiled loop: many steps for one call from the host."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

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
from framework.loop.written import recorded, written
from framework.sources.source import Source, batch_rows

_log = logging.getLogger("framework")


class Loop:
    """Runs a step over a part of an epoch, in one call.

    Within a call nothing happens in Python: batches are read and steps done in a `tf.while_loop`.
    A part is cut where the shape of a batch changes, so that each trace has static shapes; there
    are at most two of them. How an epoch is cut into parts changes no bit of the result.

    Example:
        >>> loop = Loop(source, engine.train_step)
        >>> loop.run(epoch=0, start=0, stop=100)
        (100, 3200)

    Args:
        source: Where batches come from.
        step: What to do with one, the body of the loop: `StepRunner.train_step` or
            `StepRunner.eval_step`.
        replicas: The devices that share each step. Default: one.
        variant: How it is compiled: `graph`; `step_xla`, each step by XLA; `loop_xla`, the whole
            loop by XLA; or `eager`, not at all, for a breakpoint. What XLA cannot compile runs as
            `graph`, and a warning says why.
        strict: Raise `CannotCompile` instead of that warning.
        advances: Each batch is an optimizer step, which the next one has behind it.

    Attributes:
        step: What was given, for all devices.
        variant: How it is compiled in fact, once it is.
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
        # One for each shape of batch: called without tf.function's search for the right one.
        self._runs: dict[int | None, Callable[[Any, tf.Tensor], tf.Tensor]] = {}
        self._written: dict[int | None, dict[int, str]] = {}
        # Called where steps run in Python, once one has written what none has before.
        self.on_write: Callable[[], None] = lambda: None

    def run(self, epoch: int, start: int, stop: int, global_step: int = 0) -> tuple[int, int]:
        """Run batches [start, stop) of an epoch.

        Args:
            epoch: Which epoch, from 0.
            start: The first batch, from 0.
            stop: The batch after the last.
            global_step: Optimizer steps done before batch `start`, or before all of them where
                batches are no steps.

        Returns:
            How many batches and how many examples there were: fewer batches than asked for where
            the data ended.
        """
        at, examples = start, 0
        for first, last, size in self.source.parts(start, stop):
            if size not in self._runs:
                self.trace(last)
            cursor = self.source.cursor(epoch, first)
            # One vector in and one out: each transfer to or from the device has its price.
            bounds = tf.constant([first, last, global_step - start * self._advances], tf.int64)
            with labels_checked(), self.source.reading():
                at, rows = self._runs[size](cursor, bounds).numpy().tolist()
                if at == 0 and self.source.renew(epoch):
                    cursor = self.source.cursor(epoch, first)
                    at, rows = self._runs[size](cursor, bounds).numpy().tolist()
            examples += rows
            self.source.moved(at)
            if at < last:
                break
        return at - start, examples

    def trace(self, stop: int | None = None) -> None:
        """Compile for the batch shapes of an epoch's first `stop` batches, running no step."""
        try:
            check_place(self.variant, self.source, self._replicas)
            for first, _, size in self.source.parts(0, stop or self.source.steps or 1):
                run, cursor = self._uncompiled(size), self.source.cursor(0, first)
                if self.variant != "eager":
                    run = run.get_concrete_function(cursor, tf.TensorSpec([3], tf.int64))
                if self.variant == "loop_xla":
                    check_operations(run.graph)
                    with cannot_compile():  # XLA compiles at the first call: of no step
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
        """Refuse compiled steps that change more than variables.

        Raises:
            CannotCompile: They do; the operation's name.
        """
        for run in self._runs.values():
            check_operations(run.graph)  # type: ignore[attr-defined]

    @property
    def random_operations(self) -> set[str]:
        """The kinds of operations that draw random numbers from a state of their own."""
        graphs = [run.graph for run in self._runs.values() if hasattr(run, "graph")]
        found = (each for graph in graphs for each in operations(graph))
        return {each.type for each in found if draws_by_itself(each)}

    def count(self, kind: str) -> int:
        """Return how many operations there are in the compiled steps whose kind begins so."""
        runs = self._runs.values()
        return sum(each.type.startswith(kind) for run in runs for each in operations(run.graph))  # type: ignore[attr-defined]

    def forget(self) -> None:
        """Compile anew at the next run."""
        self._runs.clear()  # and not what they write, which counts until they are compiled

    def _uncompiled(self, size: int | None) -> Any:
        """Return what is to be compiled for batches of `size` rows."""
        step = self._jitted(size) if self.variant == "step_xla" else self.step
        steps = partial(self._steps, size, step)
        if self.variant == "eager":
            return steps
        whole = self.variant == "loop_xla"
        return tf.function(steps, autograph=False, jit_compile=whole or None)

    def _jitted(self, size: int | None) -> Step:
        """Return the step, compiled by XLA by itself: what it reads is read outside of it."""

        def step(values: Any, global_step: Any, number: Any) -> None:
            rows = self._rows(values, size)
            self.step(Batch(values, rows, rows, number), global_step)

        number = tf.TensorSpec([], tf.int64)
        compiled = tf.function(step, autograph=False, jit_compile=True)
        compiled = compiled.get_concrete_function(self.source.spec(size), number, number)
        check_operations(compiled.graph)
        check_lowering(compiled)

        def run(batch: Batch, global_step: Any) -> None:
            compiled(batch.values, global_step, batch.number)

        return run

    def _steps(self, size: int | None, step: Step, cursor: Any, bounds: tf.Tensor) -> tf.Tensor:
        start, stop, before = tf.unstack(bounds)

        def body(index: Any, examples: Any, _: Any) -> Any:
            values = self.source.read(cursor, index, size)
            rows = self._rows(values, size)
            step(Batch(values, rows, rows, index), before + index if self._advances else before)
            return index + 1, examples + tf.cast(rows, tf.int64), tf.constant(True)

        def body_if_any(index: Any, examples: Any, _: Any) -> Any:
            following = self.source.taken(cursor, optional=True)

            def take() -> Any:
                values = self.source.finish(following.get_value(), index)
                rows = self._rows(values, None)
                step(Batch(values, rows, rows, index), before + index if self._advances else before)
                return index + 1, examples + tf.cast(rows, tf.int64), tf.constant(True)

            def stay() -> Any:
                return index, examples, tf.constant(False)

            return tf.cond(following.has_value(), take, stay)

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

    def _rows(self, values: Any, size: int | None) -> Any:
        return batch_rows(values, self.source.rows_axis) if size is None else size
