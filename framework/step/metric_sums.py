"""Accumulates metrics on the device until the host reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.errors import UserError

Sums = dict[str, tuple[float, float]]
_COLUMNS = 3  # a value's weighted sum, its weight, and how often it was not finite


class Accumulator:
    """Accumulate weighted means of named values, and track logged Keras metrics.

    All values of a step are added to one variable with one operation. Sums are float64: a mean
    over a million examples is exact to the last printed digit, however an epoch is split into
    batches or spans.

    Example:
        >>> means = Accumulator()
        >>> means.add({"loss": (tf.constant(2.0, tf.float64), tf.constant(32.0, tf.float64))})
        >>> means.add({"loss": (tf.constant(5.0, tf.float64), tf.constant(16.0, tf.float64))})
        >>> means.read()
        {'loss': 3.0}

    On several devices, each device adds to its own copy; reading sums the copies.

    Args:
        room: Number of names in one variable. More names need more variables, which cannot be
            created while a step is traced on several devices.
    """

    def __init__(self, room: int = 64) -> None:
        self.keras_metrics: dict[str, keras.Metric] = {}
        self.room = room
        # Created in advance: a step that creates a variable while it is traced is traced again.
        self._chunks: list[tuple[list[str], tf.Variable]] = [([], self._zeros())]
        # Created once, since `reset` runs at every row.
        self._nothing = tf.zeros((room, _COLUMNS), tf.float64)

    @property
    def names(self) -> list[str]:
        """All names logged so far."""
        return [*(name for names, _ in self._chunks for name in names), *self.keras_metrics]

    @property
    def variables(self) -> list[Any]:
        """The variables of the sums, including those of Keras metrics."""
        own = [sums for _, sums in self._chunks]
        return [*own, *(v for metric in self.keras_metrics.values() for v in metric.variables)]

    def add_metric(self, name: str, metric: keras.Metric) -> None:
        """Remember a Keras metric that a step has updated."""
        self._refuse_both([name], [name for names, _ in self._chunks for name in names])
        self.keras_metrics[name] = metric

    def has(self, name: str, values: Mapping[str, Any]) -> bool:
        """Return whether a step that noted `values` has logged `name`."""
        return name in values or name in self.keras_metrics

    def add(self, values: Mapping[str, tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Add a step's values, each with its weight, to the sums: its last operation."""
        self._make_room(values)
        zero = tf.constant(0.0, tf.float64)
        for names, sums in self._chunks:
            if any(name in values for name in names):
                # As vectors, so that a step with many values costs little more than one with few.
                pairs = [values.get(name, (zero, zero)) for name in names]
                value, weight = (tf.stack(part) for part in zip(*pairs, strict=True))
                # A value with weight 0 does not count, even if it is not finite.
                total = tf.math.multiply_no_nan(value, weight)
                bad = tf.where(tf.math.is_finite(total), zero, 1.0)
                rows = tf.stack([total, weight, bad], axis=1)
                sums.assign_add(tf.pad(rows, [[0, self.room - len(names)], [0, 0]]))

    def read(self) -> dict[str, float]:
        """Return the means and metric results so far."""
        return {**means(self.sums()), **self.results()}

    def sums(self) -> Sums:
        """Return the weighted sum and the weight of each name: the only transfer to the host."""
        return {name: (total, weight) for name, (total, weight, _) in self.rows().items()}

    def rows(self) -> dict[str, tuple[float, float, float]]:
        """Return the sums, and how often each value was not finite, per device and piece."""
        return {
            name: (float(total), float(weight), float(bad))
            for names, sums in self._chunks
            for name, (total, weight, bad) in zip(names, sums.numpy(), strict=False)
        }

    def results(self) -> dict[str, float]:
        """Return the results of the Keras metrics."""
        return {name: metric_result(name, m) for name, m in self.keras_metrics.items()}

    def reset(self) -> None:
        """Reset the means, but not the Keras metrics."""
        for _, sums in self._chunks:
            sums.assign(self._nothing, read_value=False)

    def load(self, rows: Mapping[str, Sequence[float]]) -> None:
        """Restore what `rows` or `sums` returned."""
        self._make_room(rows)
        for names, variable in self._chunks:
            values = np.zeros((self.room, _COLUMNS))
            for i, name in enumerate(names):
                row = rows.get(name, ())
                values[i, : len(row)] = row
            variable.assign(values)

    def _make_room(self, names: Iterable[str]) -> None:
        self._refuse_both(names, self.keras_metrics)
        known = {name for chunk, _ in self._chunks for name in chunk}
        for name in names:
            if name not in known:
                if len(self._chunks[-1][0]) == self.room:
                    _refuse_on_several_devices(self.room)
                    self._chunks.append(([], self._zeros()))
                self._chunks[-1][0].append(name)

    def _refuse_both(self, names: Iterable[str], others: Iterable[str]) -> None:
        for name in names:
            if name in others:
                raise UserError(
                    f"{name!r} is logged as a value and as a keras.Metric",
                    where=f"self.log({name!r}, ...)",
                    fix="Give one of the two another name.",
                )

    def _zeros(self) -> tf.Variable:
        with tf.init_scope():  # it outlives the trace of a compiled step
            return tf.Variable(
                np.zeros((self.room, _COLUMNS)),
                trainable=False,
                name="means",
                synchronization=tf.VariableSynchronization.ON_READ,
                aggregation=tf.VariableAggregation.SUM,
            )


def _refuse_on_several_devices(room: int) -> None:
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        raise UserError(
            f"a step logs more than {room} values, the limit on several devices",
            fix="Log fewer, or put several into one: self.log('loss', tf.add_n(losses)).",
        )


def metric_result(name: str, metric: keras.Metric) -> float:
    """Return a Keras metric's result as a number."""
    result = metric.result()
    if isinstance(result, Mapping):
        what = f"metric {name!r} has several results, not a number: {', '.join(map(str, result))}"
        fix = "Log a separate metric for each result, with a number as its result()."
    elif (array := np.asarray(result)).size != 1:
        what = f"the metric {name!r} has a result of shape {array.shape}, not a number"
        fix = "Average it over the classes, such as keras.metrics.F1Score(average='macro')."
    else:
        return float(array.item())
    raise UserError(what, where=type(metric).__name__, fix=fix)


def means(sums: Sums) -> dict[str, float]:
    """Return total / weight by name, for all names with a weight."""
    return {name: total / weight for name, (total, weight) in sums.items() if weight}


def add_sums(left: Sums, right: Sums) -> Sums:
    """Return the combined sums of two spans."""
    zero = (0.0, 0.0)
    names = dict.fromkeys([*left, *right])
    pairs = {name: (left.get(name, zero), right.get(name, zero)) for name in names}
    return {name: (a[0] + b[0], a[1] + b[1]) for name, (a, b) in pairs.items()}


class MetricStates:
    """Save and reset the state of Keras metrics, so that an evaluation can use them."""

    def __init__(self, metrics: list[keras.Metric]) -> None:
        unique = {id(metric): metric for metric in metrics}.values()
        self._known = {id(metric) for metric in metrics}
        self._values = [(v, v.numpy()) for metric in unique for v in metric.variables]
        for metric in unique:
            metric.reset_state()

    def restore(self, used: Iterable[keras.Metric] = ()) -> None:
        """Restore the saved state; reset `used` metrics that only a step in Python made known."""
        for metric in used:
            if id(metric) not in self._known:
                metric.reset_state()
        for variable, value in self._values:
            variable.assign(value)
