"""Evaluation and prediction, through the same compiled loop as training."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.core.signals import Signals
from framework.core.user_code import user_code
from framework.devices.host_sync import HostSync
from framework.devices.replicas import Replicas
from framework.errors import UserError
from framework.loop.compiled import Loop, Span
from framework.loop.span_length import SpanLength
from framework.sources.source import Source, batch_rows
from framework.sources.user_exceptions import not_dense
from framework.step.metric_sums import Accumulator, MetricStates
from framework.step.runner import StepRunner

_SECONDS_BETWEEN = 0.1


class Evaluator:
    """Evaluate the model on one or several sets.

    Training metrics do not change: an evaluation has its own accumulator for means, and saves and
    restores Keras metrics that training also uses.

    Example:
        >>> Evaluator(engine, {"": source}, "val").run(global_step=1563)
        {'val/loss': 2.61, 'val/accuracy': 0.355}

    Args:
        engine: Runs the task's `eval_step`.
        sources: The sets by name; a single set has the name "".
        stage: Prefix of metric names: `val` or `test`.
        variant: How to compile its loops; see `Loop`.
        host_sync: Checked about once a second; a signal ends the evaluation early.
        undrawn: Returns the context that restores random generators, given what the compiled steps
            write.
        progress: Called now and then with the batches that are over, and all of them if known.
    """

    def __init__(
        self,
        engine: StepRunner,
        sources: Mapping[str, Source],
        stage: str,
        *,
        variant: str = "graph",
        host_sync: HostSync | None = None,
        undrawn: Callable[[Mapping[int, str] | None], AbstractContextManager[Any]] = nullcontext,
        progress: Callable[[int, int | None], None] = lambda done, total: None,
    ) -> None:
        self._engine, self._sources, self._stage = engine, sources, stage
        self._undrawn, self._eager, self._progress = undrawn, variant == "eager", progress
        self._host_sync = host_sync or HostSync(Signals(), Replicas(""))
        self._means = {name: Accumulator(engine.train.room) for name in sources}
        self._loops = {
            name: Loop(
                source,
                partial(engine.eval_step, number, self._means[name]),
                replicas=engine.replicas,
                variant=variant,
                advances=False,
            )
            for number, (name, source) in enumerate(sources.items())
        }

    def trace(self) -> None:
        """Compile for every set, without running a step."""
        for loop in self._loops.values():
            where = f"{type(self._engine.task).__name__}.eval_step"
            with user_code(where, loop.source.spec):
                loop.trace()

    def forget(self) -> None:
        """Compile again at the next run."""
        for loop in self._loops.values():
            loop.forget()

    @property
    def has_data(self) -> bool:
        """Whether there is any set."""
        return bool(self._loops)

    @property
    def names(self) -> set[str]:
        """The full names of what the compiled steps log; empty before they are traced."""
        sets = self._means.items()
        return {f"{self._prefix(name)}/{each}" for name, means in sets for each in means.names}

    @property
    def written(self) -> dict[int, str]:
        """What the compiled steps write, by handle; see `written.written`."""
        return {k: name for loop in self._loops.values() for k, name in loop.written.items()}

    def on_write(self, function: Callable[[], None]) -> None:
        """Set the function to call if steps run in Python; see `Loop.on_write`."""
        for loop in self._loops.values():
            loop.on_write = function

    @property
    def internal(self) -> list[Any]:
        """The variables of the means, which each evaluation resets."""
        return [v for means in self._means.values() for v in means.variables]

    @property
    def keras_metrics(self) -> dict[str, keras.Metric]:
        """The Keras metrics that the compiled steps log, by full name."""
        return {
            f"{self._prefix(of)}/{name}": metric
            for of, means in self._means.items()
            for name, metric in means.keras_metrics.items()
        }

    def run(self, global_step: int = 0, most: int | None = None) -> dict[str, float]:
        """Evaluate on every set, or on its first `most` batches; a step may read `global_step`.

        Returns metrics by full name; of the evaluated part, if interrupted.
        """
        with self._undrawn(self.written):
            return self._read(global_step, most)

    def each_prediction(self, visit: Callable[[str, Any, Any], None]) -> bool:
        """Predict every set batch by batch, and keep nothing.

        Args:
            visit: Called with the name of the set, the batch and what `predict_step` returned for
                it, as nests of arrays.

        Returns:
            Whether every batch was predicted; False if a signal ended it early.
        """
        interrupted = self._host_sync.interrupted
        where = f"{type(self._engine.task).__name__}.predict_step"
        with self._undrawn(None):
            for number, (name, source) in enumerate(self._sources.items()):
                step = partial(self._engine.predict_step, number)
                outputs = _outputs(partial(_both, step), source, self._eager, None, interrupted)
                while not interrupted():
                    with user_code(where, source.spec):
                        pair = next(outputs, None)
                    if pair is None:
                        break
                    visit(name, *tf.nest.map_structure(np.asarray, pair))
        return not interrupted()

    def _read(self, global_step: int, most: int | None) -> dict[str, float]:
        metrics: dict[str, float] = {}
        told = _Told(self._progress, [_end_of(loop, most) for loop in self._loops.values()])
        for name, loop in self._loops.items():
            accumulator = self._means[name]
            aside = MetricStates(
                [*accumulator.keras_metrics.values(), *self._engine.train.keras_metrics.values()]
            )
            accumulator.reset()
            try:
                self._run(loop, global_step, most, told)
                metrics |= {f"{self._prefix(name)}/{k}": v for k, v in accumulator.read().items()}
            finally:
                loop.source.finished(0)
                aside.restore(accumulator.keras_metrics.values())
        return metrics

    def _prefix(self, name: str) -> str:
        return f"{self._stage}/{name}" if name else self._stage

    def _run(self, loop: Loop, global_step: int, most: int | None, told: _Told) -> None:
        span, at, end = SpanLength(), 0, _end_of(loop, most)
        while (end is None or at < end) and not self._host_sync.interrupted():
            ends = [n for n in (end, at + span.steps) if n is not None]
            stop = self._host_sync.nearest(min(ends))
            started = time.monotonic()
            done = loop.run(Span(0, at, stop, global_step))
            span.measured(done.steps, self._host_sync.beat(time.monotonic() - started))
            at += done.steps
            told.add(done.steps)
            if done.ended:
                return


class _Told:
    """The progress of one evaluation over its sets, told at most a few times a second."""

    def __init__(self, tell: Callable[[int, int | None], None], ends: list[int | None]) -> None:
        known = [end for end in ends if end is not None]
        self._tell, self._total = tell, sum(known) if len(known) == len(ends) else None
        self._done, self._at = 0, time.monotonic()

    def add(self, steps: int) -> None:
        """Count batches."""
        self._done += steps
        now = time.monotonic()
        if now - self._at >= _SECONDS_BETWEEN and self._done != self._total:
            self._at = now
            self._tell(self._done, self._total)


def _end_of(loop: Loop, most: int | None) -> int | None:
    """Return how many batches to evaluate on, or None while that is unknown."""
    end = loop.source.steps
    return most if end is None else min(end, end if most is None else most)


def predict(
    step: Callable[..., Any],
    source: Source,
    *,
    eager: bool = False,
    most: int | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Any:
    """Return the predictions of a step for every batch, concatenated along the first axis.

    The step is called with a batch and its index, at most `most` times; after every batch
    `interrupted` may end the prediction early.
    """

    def counted(batch: Any, index: tf.Tensor) -> Any:
        return step(batch, index), batch_rows(batch, source.rows_axis)

    parts = [_rows_of(*each) for each in _outputs(counted, source, eager, most, interrupted)]
    _check_widths(parts)
    return tf.nest.map_structure(lambda *leaves: np.concatenate(leaves), *parts)


def _outputs(
    function: Callable[[Any, tf.Tensor], Any],
    source: Source,
    eager: bool,
    most: int | None,
    interrupted: Callable[[], bool],
) -> Iterator[Any]:
    """Yield what a function of a batch and its index returns for each batch of a set."""
    end = source.steps if most is None else min(most, source.steps or most)
    for start, stop, size in source.parts(0, end if end is not None else 2**62):
        run = partial(_output_of, function, source, source.cursor(0, start), size)
        if not eager:  # one call per batch reads it, computes it and copies it to the host
            number = tf.TensorSpec([], tf.int64)
            run = tf.function(run, autograph=False).get_concrete_function(number)
        for index in range(start, stop):
            try:
                with source.reading():
                    output = run(tf.constant(index, tf.int64))
            except tf.errors.OutOfRangeError:
                break
            source.moved(index + 1)
            yield output
            if interrupted():
                break
    source.finished(0)


def _rows_of(output: Any, rows: Any) -> Any:
    """Return the predictions for a batch as arrays, after checking their numbers of rows."""
    found = [not_dense(leaf) for leaf in tf.nest.flatten(output)]
    what = next((what for what, _ in filter(None, found)), "")
    arrays = None if what else tf.nest.map_structure(np.asarray, output)
    for leaf in tf.nest.flatten(arrays) if not what else ():
        if not np.ndim(leaf):
            what = "a single number for a whole batch"
        elif len(leaf) != int(rows):
            what = f"{len(leaf)} rows for a batch of {int(rows)}"
    if what:
        raise UserError(
            f"predict_step returned {what}",
            where="predict_step",
            fix="Return one row for each example: dense tensors of shape [rows, ...].",
        )
    return arrays


def _check_widths(parts: list[Any]) -> None:
    """Check that the predictions of all batches have the same shape per row."""
    shapes = {tuple(np.shape(leaf)[1:] for leaf in tf.nest.flatten(part)) for part in parts}
    if len(shapes) > 1:
        first, other = (", ".join(map(str, each)) for each in sorted(shapes)[:2])
        raise UserError(
            f"predictions differ in width from batch to batch: {first} and {other}",
            where="predict_step",
            fix="Pad them to one width there, or predict batches of one width at a time.",
        )


def _output_of(
    function: Callable[..., Any], source: Source, cursor: Any, size: int | None, index: tf.Tensor
) -> Any:
    return function(source.read(cursor, index, size), index)


def _both(step: Callable[..., Any], batch: Any, index: tf.Tensor) -> Any:
    return batch, step(batch, index)
