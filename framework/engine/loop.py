"""The compiled loop: many steps for one call from the host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import tensorflow as tf

from framework.data.source import Source, batch_rows
from framework.engine.build import labels_checked
from framework.engine.replicas import Replicas, Step


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
        step: What to do with one, the body of the loop: `Engine.train_step` or
            `Engine.eval_step`.
        replicas: The devices that share each step. Default: one.
        eager: Run each step in Python, for a breakpoint.
    """

    def __init__(
        self,
        source: Source,
        step: Step,
        *,
        replicas: Replicas | None = None,
        eager: bool = False,
    ) -> None:
        self.source, self._eager = source, eager
        self.step = step if replicas is None else replicas.spread(step)
        # One for each shape of batch: called without tf.function's search for the right one.
        self._runs: dict[int | None, Callable[[Any, tf.Tensor], tf.Tensor]] = {}

    def run(self, epoch: int, start: int, stop: int, global_step: int = 0) -> tuple[int, int]:
        """Run batches [start, stop) of an epoch.

        Args:
            epoch: Which epoch, from 0.
            start: The first batch, from 0.
            stop: The batch after the last.
            global_step: Optimizer steps done before batch `start`.

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
            bounds = tf.constant([first, last, global_step - start], tf.int64)
            with labels_checked(), self.source.reading():
                at, rows = self._runs[size](cursor, bounds).numpy().tolist()
            examples += rows
            self.source.moved(at)
            if at < last:
                break
        return at - start, examples

    def trace(self, stop: int | None = None) -> None:
        """Compile for the batch shapes of an epoch's first `stop` batches, running no step."""
        for first, _, size in self.source.parts(0, stop or self.source.steps or 1):
            steps = partial(self._steps, size)
            if not self._eager:
                cursor, bounds = self.source.cursor(0, first), tf.TensorSpec([3], tf.int64)
                steps = tf.function(steps, autograph=False).get_concrete_function(cursor, bounds)
            self._runs[size] = steps

    def forget(self) -> None:
        """Compile anew at the next run."""
        self._runs.clear()

    def _steps(self, size: int | None, cursor: Any, bounds: tf.Tensor) -> tf.Tensor:
        start, stop, before = tf.unstack(bounds)

        def read(index: tf.Tensor) -> tuple[Any, Any, Any]:
            batch = self.source.read(cursor, index, size)
            rows = batch_rows(batch) if size is None else size
            return batch, rows, rows

        body: Callable[..., Any] = partial(self.step, read, before)
        if self.source.steps is None:
            body = partial(self._step_if_any, cursor, before)
        state: Any = start, tf.zeros((), tf.int64), tf.constant(True)
        if self._eager:
            while state[2] and state[0] < stop:
                state = body(*state)
        else:
            state = tf.while_loop(
                lambda index, _, more: tf.logical_and(more, index < stop), body, state
            )
        return tf.stack(state[:2])

    def _step_if_any(self, cursor: Any, before: Any, index: Any, examples: Any, more: Any) -> Any:
        following = cursor.get_next_as_optional()

        def read(_: Any) -> tuple[Any, Any, Any]:
            batch = self.source.finish(following.get_value(), index)
            rows = batch_rows(batch)
            return batch, rows, rows

        return tf.cond(
            following.has_value(),
            lambda: self.step(read, before, index, examples, more),
            lambda: (index, examples, tf.constant(False)),
        )
