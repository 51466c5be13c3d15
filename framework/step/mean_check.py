"""Whether the mean over a batch's pieces is what a step returns of the whole batch."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf
from keras.src import backend

from framework.core.graphs import operations
from framework.core.models import models_of
from framework.errors import UserError
from framework.sources.rows_axis import rows_of_specs
from framework.sources.source import batch_rows
from framework.step.accumulator import Accumulator
from framework.step.autograph import not_converted
from framework.step.generators import set_aside
from framework.step.losses import forget_model_losses
from framework.step.runner import StepRunner

if TYPE_CHECKING:
    from framework.task import Task

_log = logging.getLogger("framework")

_ROWS, _WIDTH = 4, 32  # of the batch that is made up, where its shape is open
_OUT_OF_BOUNDS = re.compile(
    r"slice index \d+ of dimension \d+ out of bounds|indices\S* = .*? is not in \[0, \d+\)"
)
_CHANGING = ("Assign", "Rng", "StatefulUniform", "StatefulStandardNormal", "PyFunc", "EagerPyFunc")
_WAYS = (
    "return the mean over the rows, tf.reduce_mean(per_row); join rows that are compared with each "
    "other by self.gather; divide masked sums by self.global_mean; if another axis holds the rows, "
    "say Data(rows_axis=1)"
)


def check_mean(task: Task, spec: Any, rows_axis: Any) -> None:
    """Check that a task's loss is a mean over rows, as devices and accumulation need it.

    They weigh the losses of a batch's pieces by rows. So the loss of made-up rows is computed: of
    the same rows once, twice and four times over, by which a sum grows evenly and nothing else
    does; and of the halves of a batch, the mean of which has to be that of the whole. Only what the
    loss needs is run, and the task's attributes are put back: nothing is assigned, and no generator
    moves. A loss that cannot be had so, as that of a step which needs values, is not looked at.

    Args:
        task: Its model is built.
        spec: The nest of TensorSpecs of a batch.
        rows_axis: Which axis of a batch's tensors holds its rows.

    Raises:
        UserError: It is a sum, or it cannot be computed of a part of the rows.
    """
    made = _MadeUp(spec, rows_axis)
    try:
        with _kept(task):
            losses = _Losses(task, spec, rows_axis, made.specs)
        times = (1, 2, 4, 8) if losses.draws else (1, 2, 4)
        grown = np.array([losses(made.repeated(n)) for n in times])
    except Exception as error:  # the step's own concern, met again where it is compiled
        _log.debug("whether the loss is a mean could not be told: %s", error)
        return
    if losses.joins or not np.isfinite(grown).all():
        return
    if _is_sum(grown, certain=not losses.draws):
        raise UserError(
            "the loss is a sum over the batch's rows, not their mean: "
            f"{grown[0].max():.4g} becomes {grown[1].max():.4g} with the same rows twice over, and "
            f"{grown[2].max():.4g} with them four times over",
            where=f"{type(task).__name__}.train_step",
            fix="Return the mean over the rows, tf.reduce_mean(per_row): devices and accumulate "
            "weigh the means of their pieces. Or say loss_is_mean = False in the task.",
        )
    _compare_halves(task, losses, made, grown[0])


def _is_sum(losses: np.ndarray, *, certain: bool) -> bool:
    """Tell whether the losses of 1, 2, 4, … times the same rows grow by as much as the rows."""
    steps = np.diff(losses, axis=0)
    least, apart = (1e-3, 0.05) if certain else (0.3, 0.25)
    grows = np.abs(steps[0]) > least * np.abs(losses[0]) + 1e-6
    evenly = np.abs(steps[1:] - 2 * steps[:-1]) <= apart * np.abs(2 * steps[:-1])
    return bool((grows & evenly.all(axis=0)).any())


def _compare_halves(task: Task, losses: _Losses, made: _MadeUp, whole: np.ndarray) -> None:
    where, rows, middle = f"{type(task).__name__}.train_step", made.rows, made.rows // 2
    try:
        losses(made.part(0, 1))  # as the end of the data may be
        parts = [losses(made.part(0, middle)), losses(made.part(middle, rows))]
    except tf.errors.OpError as error:
        beyond = _OUT_OF_BOUNDS.search(str(error))
        if not beyond:
            return
        raise UserError(
            "the step cannot be computed of a part of a batch's rows, as devices and accumulate "
            f"have to: {beyond[0]}",
            where=where,
            fix="If another axis than the first holds the rows, say so: Data(rows_axis=1).",
        ) from error
    if losses.draws or any(map(_normalises_by_batch, models_of(task.model).values())):
        return
    mean = (parts[0] * middle + parts[1] * (rows - middle)) / rows
    half = keras.config.dtype_policy().compute_dtype not in ("float32", "float64")
    limit = (0.05 if half else 1e-3) * np.abs([whole, *parts]).max(axis=0) + 1e-6
    if np.isfinite(mean).all() and (np.abs(mean - whole) > limit).any():
        _log.warning(
            "%s: the loss of a batch (%.4g, of made-up rows) is not the mean of its halves' "
            "(%.4g), so that devices and accumulate change what is learned: %s; or say "
            "loss_is_mean = False in the task",
            *(where, whole.max(), mean.max(), _WAYS),
        )


def _normalises_by_batch(model: keras.Layer) -> bool:
    kind = keras.layers.BatchNormalization
    return any(isinstance(each, kind) and not each.synchronized for each in model._flatten_layers())


class _MadeUp:
    """Rows of a batch's shape, always the same: numbers from 0 to 1, and 0 and 1 as integers.

    Attributes:
        specs: Of a batch's tensors, with the number of rows left open.
        rows: How many there are.
    """

    def __init__(self, spec: Any, rows_axis: Any) -> None:
        self.specs, self._axes, rows = rows_of_specs(spec, rows_axis)
        self.rows = _ROWS if rows is None else max(2, min(rows, _ROWS))
        draw = np.random.RandomState(0)
        self._leaves = [
            self._leaf(*pair, draw) for pair in zip(self.specs, self._axes, strict=True)
        ]

    def _leaf(self, spec: tf.TensorSpec, axis: int | None, draw: Any) -> np.ndarray:
        shape = [_WIDTH if size is None else size for size in spec.shape]
        if axis is not None:
            shape[axis] = self.rows
        if spec.dtype == tf.string:
            return np.full(shape, b"")
        if spec.dtype.is_floating or spec.dtype.is_complex:
            return np.asarray(draw.rand(*shape)).astype(spec.dtype.as_numpy_dtype)
        return np.asarray(draw.randint(2, size=shape)).astype(spec.dtype.as_numpy_dtype)

    def repeated(self, times: int) -> list[np.ndarray]:
        """Return a batch of the rows so many times over."""
        return self._each(lambda leaf, axis: np.concatenate([leaf] * times, axis))

    def part(self, first: int, last: int) -> list[np.ndarray]:
        """Return a batch of rows [first, last)."""
        return self._each(lambda leaf, axis: np.take(leaf, range(first, last), axis))

    def _each(self, function: Callable[[np.ndarray, int], np.ndarray]) -> list[np.ndarray]:
        pairs = zip(self._leaves, self._axes, strict=True)
        return [leaf if axis is None else function(leaf, axis) for leaf, axis in pairs]


class _Recording(StepRunner):
    """An engine that updates nothing and keeps the losses that it is given."""

    def __init__(self, task: Task) -> None:
        super().__init__(task, train=Accumulator(), building=True)
        self.losses: list[tf.Tensor] = []
        self.joins = False

    @not_converted
    def _log_loss(self, loss: tf.Tensor) -> None:
        self.losses.append(loss)

    @not_converted
    def apply_gradients(self, tape: tf.GradientTape, loss: Any, name: Any = None) -> None:
        super().apply_gradients(tape, loss, name)
        self.losses += tf.nest.flatten(loss)

    @not_converted
    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        self.joins = True
        return tensor

    @not_converted
    def global_mean(self, values: Any, weights: Any) -> tf.Tensor:
        self.joins = True
        return super().global_mean(values, weights)


class _Losses:
    """The losses of a batch of any number of rows, compiled once.

    Attributes:
        joins: The step asks for the other devices' rows: its loss is not of its own rows alone.
        draws: It needs random numbers.
    """

    def __init__(self, task: Task, spec: Any, rows_axis: Any, specs: list[tf.TensorSpec]) -> None:
        engine = task.runtime.context = _Recording(task)

        def losses(*leaves: tf.Tensor) -> tf.Tensor:
            batch, zero = tf.nest.pack_sequence_as(spec, leaves), tf.constant(0, tf.int64)
            rows = batch_rows(batch, rows_axis)
            engine.train_step(lambda _: (batch, rows, rows), zero, zero, zero, True)
            return tf.stack([tf.cast(loss, tf.float64) for loss in engine.losses])

        traced = tf.compat.v1.wrap_function(losses, specs)
        self._run = traced.prune(traced.inputs[: len(specs)], traced.outputs[0])
        kinds = {each.type for each in operations(self._run.graph)}
        if any(kind.startswith(_CHANGING) for kind in kinds):
            raise ValueError("the loss needs what changes something")
        self.joins, self.draws = engine.joins, any("Random" in kind for kind in kinds)

    def __call__(self, leaves: list[np.ndarray]) -> np.ndarray:
        return np.asarray(self._run(*map(tf.constant, leaves)))


@contextmanager
def _kept(task: Task) -> Iterator[None]:
    """Leave a task's attributes and the random numbers of Python and NumPy as they are.

    Nothing is dropped meanwhile, so that the same rows give the same loss.
    """
    attributes, dropout = dict(vars(task)), backend.random.dropout
    context = task.runtime.context
    held = {k: copy(v) for k, v in attributes.items() if isinstance(v, (list, dict, set))}
    vars(task).update(held)
    backend.random.dropout = lambda inputs, *_, **__: inputs
    try:
        with set_aside((), 0, host=True):
            yield
    finally:
        backend.random.dropout = dropout
        vars(task).clear()
        vars(task).update(attributes)
        task.runtime.context = context
        forget_model_losses(task.model)
