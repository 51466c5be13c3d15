"""Checks that the mean of the losses of a batch's pieces is the loss of the whole batch."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from framework.compat import layers_within, nothing_dropped
from framework.core.autograph import not_converted
from framework.core.graphs import operations
from framework.core.models_by_name import models_of
from framework.devices.replicas import Batch
from framework.errors import UserError
from framework.sources.rows_axis import rows_of_specs
from framework.sources.source import batch_rows
from framework.step.check_loss import forget_model_losses
from framework.step.generators import set_aside
from framework.step.metric_sums import Accumulator
from framework.step.runner import StepRunner

if TYPE_CHECKING:
    from framework.task import Task

_log = logging.getLogger("framework")

_ROWS, _WIDTH = 8, 32  # rows of a batch; size of unknown dimensions in a made-up batch
_OUT_OF_BOUNDS = re.compile(
    r"slice index \d+ of dimension \d+ out of bounds|indices\S* = .*? is not in \[0, \d+\)"
)
_CHANGING = ("Assign", "Rng", "StatefulUniform", "StatefulStandardNormal", "PyFunc", "EagerPyFunc")
_WAYS = (
    "return the mean over the rows, tf.reduce_mean(per_row); join rows that are compared with each "
    "other by self.gather; divide masked sums by self.global_mean; if another axis holds the rows, "
    "say Data(rows_axis=1)"
)


def check_mean(task: Task, spec: Any, rows_axis: Any, sample: Callable[[], Any]) -> None:
    """Check that a task's loss is a mean over rows, as devices and accumulation require.

    These weight the losses of a batch's pieces by rows. The check computes the loss of a few rows,
    of the same rows repeated twice, and four times: only a sum grows evenly with the rows. Then it
    computes the losses of parts of the rows: their mean must be the loss of all rows. It runs only
    the operations that the loss needs and restores the task's attributes: no variable is assigned,
    and no generator draws. A loss that needs other operations, such as Python calls, is not
    checked. If `sample` cannot return a batch, rows are made up.
    """
    rows = _Rows(spec, rows_axis, sample)
    try:
        with _kept(task):
            losses = _Losses(task, spec, rows_axis, rows.specs)
            alone = _Losses(task, spec, rows_axis, rows.specs, twice=True) if losses.joins else None
        times = (1, 4, 16) if losses.draws else (1, 2, 4)
        grown = np.array([losses(rows.repeated(n)) for n in times])
    except Exception as error:  # an error of the step is reported when it is compiled
        _log.debug("cannot check whether the loss is a mean: %s", error)
        return
    if not np.isfinite(grown).all():
        return
    if _sum_of_noise(grown) if losses.draws else _is_sum(grown):
        raise UserError(
            "the loss is a sum over the batch's rows, not their mean: "
            f"{grown[0].max():.4g} becomes {grown[1].max():.4g} and {grown[2].max():.4g} with the "
            "same rows repeated",
            where=f"{type(task).__name__}.train_step",
            fix="Return the mean over the rows, tf.reduce_mean(per_row): devices and accumulate "
            "weight the means of their pieces. Or set loss_is_mean = False in the task.",
        )
    if alone is not None:
        _compare_alone(task, alone(rows.repeated(1)), losses(rows.repeated(2)), losses.draws)
    else:
        _compare_parts(task, losses, rows, grown[0])


def _is_sum(losses: np.ndarray) -> bool:
    """Return whether the losses of 1, 2 and 4 times the same rows grow as the rows do."""
    first, second = np.diff(losses, axis=0)
    grows = np.abs(first) > 1e-3 * np.abs(losses[0]) + 1e-6
    return bool((grows & (np.abs(second - 2 * first) <= 0.1 * np.abs(first))).any())


def _sum_of_noise(losses: np.ndarray) -> bool:
    """Return the same for 1, 4 and 16 times the rows, if every row draws random numbers."""
    with np.errstate(divide="ignore", invalid="ignore"):
        first, second = losses[1] / losses[0], losses[2] / losses[1]
    return bool(((first > 2.2) & (first < 7) & (second > 3) & (second < 5.3)).any())


def _compare_parts(task: Task, losses: _Losses, rows: _Rows, whole: np.ndarray) -> None:
    """Compare the loss of all rows with the mean of the parts' losses, weighted by rows."""
    middle = rows.count // 2
    try:
        pieces = {
            cut: (losses(rows.part(0, cut)), losses(rows.part(cut, rows.count)))
            for cut in {1, middle}  # the last batch may have only one row
        }
    except tf.errors.OpError as error:
        beyond = _OUT_OF_BOUNDS.search(str(error))
        if not beyond:
            return
        raise UserError(
            "the step cannot be computed for a part of a batch's rows, as devices and accumulate "
            f"require: {beyond[0]}",
            where=f"{type(task).__name__}.train_step",
            fix="If the rows are on another axis than the first, set Data(rows_axis=1).",
        ) from error
    layers = [each for model in models_of(task.model).values() for each in layers_within(model)]
    if losses.draws or any(isinstance(a, keras.layers.BatchNormalization) for a in layers):
        return
    for cut, (first, second) in pieces.items():
        mean = (first * cut + second * (rows.count - cut)) / rows.count
        if _differ(mean, whole, np.abs([whole, first, second]).max(axis=0)):
            _warn(task, f"{whole.max():.4g}, the mean of its parts' {mean.max():.4g}")
            return


def _compare_alone(task: Task, alone: np.ndarray, both: np.ndarray, draws: bool) -> None:
    """Compare the loss of a device that has half of the rows with the loss of all rows."""
    if not draws and _differ(alone, both, np.abs([alone, both]).max(axis=0)):
        _warn(task, f"{both.max():.4g}, that of a device which has half of it {alone.max():.4g}")


def _differ(left: np.ndarray, right: np.ndarray, size: np.ndarray) -> bool:
    half = keras.config.dtype_policy().compute_dtype not in ("float32", "float64")
    limit = (0.05 if half else 1e-4) * size + 1e-5
    return bool(np.isfinite(left).all() and (np.abs(left - right) > limit).any())


def _warn(task: Task, what: str) -> None:
    _log.warning(
        "%s.train_step: the loss of some rows is %s, so that devices and accumulate change what is "
        "learned: %s; or say loss_is_mean = False in the task",
        *(type(task).__name__, what, _WAYS),
    )


class _Rows:
    """A few rows of a batch: the first ones, or made-up ones if there is no batch."""

    def __init__(self, spec: Any, rows_axis: Any, sample: Callable[[], Any]) -> None:
        self.specs, self._axes, _ = rows_of_specs(spec, rows_axis)
        self.count = _ROWS
        try:
            self._leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(sample())]
            lengths = [leaf.shape[axis] for leaf, axis in self._pairs() if axis is not None]
            self.count = min([_ROWS, *lengths])
            self._leaves = self.part(0, self.count)
        except Exception as error:  # an error of the data is reported when it is read
            _log.debug("there are no rows to check: %s", error)
            self.count = 0
        if self.count < 2:
            self.count, draw = _ROWS, np.random.RandomState(0)
            pairs = zip(self.specs, self._axes, strict=True)
            self._leaves = [self._made_up(*pair, draw) for pair in pairs]

    def _made_up(self, spec: tf.TensorSpec, axis: int | None, draw: Any) -> np.ndarray:
        shape = [_WIDTH if size is None else size for size in spec.shape]
        if axis is not None:
            shape[axis] = self.count
        if spec.dtype == tf.string:
            return np.full(shape, b"")
        if spec.dtype.is_floating or spec.dtype.is_complex:
            return np.asarray(draw.rand(*shape)).astype(spec.dtype.as_numpy_dtype)
        return np.asarray(draw.randint(2, size=shape)).astype(spec.dtype.as_numpy_dtype)

    def _pairs(self) -> Iterable[tuple[np.ndarray, int | None]]:
        return zip(self._leaves, self._axes, strict=True)

    def repeated(self, times: int) -> list[np.ndarray]:
        """Return a batch of the rows, repeated `times` times."""
        return self._each(lambda leaf, axis: np.concatenate([leaf] * times, axis))

    def part(self, first: int, last: int) -> list[np.ndarray]:
        """Return a batch of rows [first, last)."""
        return self._each(lambda leaf, axis: np.take(leaf, range(first, last), axis))

    def _each(self, function: Callable[[np.ndarray, int], np.ndarray]) -> list[np.ndarray]:
        return [leaf if axis is None else function(leaf, axis) for leaf, axis in self._pairs()]


class _Recording(StepRunner):
    """A runner that only records losses; if `twice`, as if another device had the same rows."""

    def __init__(self, task: Task, *, twice: bool) -> None:
        super().__init__(task, train=Accumulator(), building=True)
        self._twice = twice
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
        return tf.concat([tensor, tensor], 0) if self._twice else tf.convert_to_tensor(tensor)


class _Losses:
    """Compute the losses of a batch with any number of rows, compiled once."""

    def __init__(
        self,
        task: Task,
        spec: Any,
        rows_axis: Any,
        specs: list[tf.TensorSpec],
        *,
        twice: bool = False,
    ) -> None:
        engine = task.runtime.context = _Recording(task, twice=twice)

        def losses(*leaves: tf.Tensor) -> tf.Tensor:
            batch, zero = tf.nest.pack_sequence_as(spec, leaves), tf.constant(0, tf.int64)
            rows = batch_rows(batch, rows_axis)
            engine.train_step(Batch(batch, rows, rows, zero), zero)
            return tf.stack([tf.cast(loss, tf.float64) for loss in engine.losses])

        traced = tf.compat.v1.wrap_function(losses, specs)
        self._run = traced.prune(traced.inputs[: len(specs)], traced.outputs[0])
        kinds = {each.type for each in operations(self._run.graph)}
        if any(kind.startswith(_CHANGING) for kind in kinds):
            raise ValueError("the loss needs operations that change something")
        self.joins, self.draws = engine.joins, any("Random" in kind for kind in kinds)

    def __call__(self, leaves: list[np.ndarray]) -> np.ndarray:
        return np.asarray(self._run(*map(tf.constant, leaves)))


@contextmanager
def _kept(task: Task) -> Iterator[None]:
    """Restore a task and Python's and NumPy's generators after a body without dropout."""
    attributes = dict(vars(task))
    context = task.runtime.context
    held = {k: copy(v) for k, v in attributes.items() if isinstance(v, (list, dict, set))}
    vars(task).update(held)
    try:
        with nothing_dropped(), set_aside((), 0, host=True):
            yield
    finally:
        vars(task).clear()
        vars(task).update(attributes)
        task.runtime.context = context
        forget_model_losses(task.model)
