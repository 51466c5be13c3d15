"""Metrics that add up on the device and are read when somebody asked."""

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
    """Weighted means of named values, and the Keras metrics logged beside them.

    All values of a step go into one variable with one operation. Sums are float64: a mean over a
    million examples is exact to the last printed digit, and cutting an epoch into other batches
    or stretches does not show.

    Example:
        >>> means = Accumulator()
        >>> means.add({"loss": (tf.constant(2.0, tf.float64), tf.constant(32.0, tf.float64))})
        >>> means.add({"loss": (tf.constant(5.0, tf.float64), tf.constant(16.0, tf.float64))})
        >>> means.read()
        {'loss': 3.0}

    On several devices each adds to a variable of its own; reading adds them up.

    Args:
        room: Names in one variable. Further ones get further variables, which on several devices
            cannot be made while a step is traced.
    """

    def __init__(self, room: int = 64) -> None:
        self.keras_metrics: dict[str, keras.Metric] = {}
        self.room = room
        # Room is made beforehand: a variable that a compiled step makes while it is traced has
        # it traced once more.
        self._chunks: list[tuple[list[str], tf.Variable]] = [([], self._zeros())]
        self._nothing = tf.zeros(
            (room, _COLUMNS), tf.float64
        )  # made once: `reset` runs at every row

    @property
    def names(self) -> list[str]:
        """All names logged so far."""
        return [*(name for names, _ in self._chunks for name in names), *self.keras_metrics]

    @property
    def variables(self) -> list[Any]:
        """The variables in which values add up, those of Keras metrics included."""
        own = [sums for _, sums in self._chunks]
        return [*own, *(v for metric in self.keras_metrics.values() for v in metric.variables)]

    def add_metric(self, name: str, metric: keras.Metric) -> None:
        """Remember a Keras metric that a step has updated."""
        if any(name in names for names, _ in self._chunks):
            raise UserError(
                f"{name!r} is logged as a value and as a keras.Metric",
                where=f"self.log({name!r}, ...)",
                fix="Give one of the two another name.",
            )
        self.keras_metrics[name] = metric

    def has(self, name: str, values: Mapping[str, Any]) -> bool:
        """Tell whether a step that noted `values` has logged `name`."""
        return name in values or name in self.keras_metrics

    def add(self, values: Mapping[str, tuple[tf.Tensor, tf.Tensor]]) -> None:
        """Add a step's values to the sums: its last operation.

        Args:
            values: By name, a value and its weight: float64 scalars.
        """
        self._make_room(values)
        zero = tf.constant(0.0, tf.float64)
        for names, sums in self._chunks:
            if any(name in values for name in names):
                # As vectors: a step of many values is to cost hardly more than one of a few.
                pairs = [values.get(name, (zero, zero)) for name in names]
                value, weight = (tf.stack(part) for part in zip(*pairs, strict=True))
                # What has no weight counts for nothing, even if it is not finite.
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
        """Return the same, and how often each was not finite: once for each device and piece."""
        return {
            name: (float(total), float(weight), float(bad))
            for names, sums in self._chunks
            for name, (total, weight, bad) in zip(names, sums.numpy(), strict=False)
        }

    def results(self) -> dict[str, float]:
        """Return the results of the Keras metrics."""
        return {name: metric_result(name, m) for name, m in self.keras_metrics.items()}

    def reset(self) -> None:
        """Start the means anew; Keras metrics are left as they are."""
        for _, sums in self._chunks:
            sums.assign(self._nothing, read_value=False)

    def load(self, rows: Mapping[str, Sequence[float]]) -> None:
        """Put back what `rows` or `sums` returned."""
        self._make_room(rows)
        for names, variable in self._chunks:
            values = np.zeros((self.room, _COLUMNS))
            for i, name in enumerate(names):
                row = rows.get(name, ())
                values[i, : len(row)] = row
            variable.assign(values)

    def _make_room(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.keras_metrics:
                raise UserError(
                    f"{name!r} is logged as a value and as a keras.Metric",
                    where=f"self.log({name!r}, ...)",
                    fix="Give one of the two another name.",
                )
        known = {name for chunk, _ in self._chunks for name in chunk}
        for name in names:
            if name not in known:
                if len(self._chunks[-1][0]) == self.room:
                    _refuse_on_several_devices(self.room)
                    self._chunks.append(([], self._zeros()))
                self._chunks[-1][0].append(name)

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
            f"a step logs more than {room} values, which it cannot on several devices",
            fix="Log fewer, or put several into one: self.log('loss', tf.add_n(losses)).",
        )


def metric_result(name: str, metric: keras.Metric) -> float:
    """Return a Keras metric's result as a number."""
    given = metric.result()
    if isinstance(given, Mapping):
        raise UserError(
            f"metric {name!r} gives several results, not a number: {', '.join(map(str, given))}",
            where=type(metric).__name__,
            fix="Log one metric for each of them, whose result() is a number.",
        )
    result = np.asarray(given)
    if result.size != 1:
        raise UserError(
            f"the metric {name!r} has a result of shape {result.shape}, not a number",
            where=type(metric).__name__,
            fix="Have it average its classes, such as keras.metrics.F1Score(average='macro').",
        )
    return float(result.item())


def means(sums: Sums) -> dict[str, float]:
    """Return total / weight by name, of what has any weight."""
    return {name: total / weight for name, (total, weight) in sums.items() if weight}


def add_sums(left: Sums, right: Sums) -> Sums:
    """Return the sums of two stretches together."""
    zero = (0.0, 0.0)
    names = dict.fromkeys([*left, *right])
    pairs = {name: (left.get(name, zero), right.get(name, zero)) for name in names}
    return {name: (a[0] + b[0], a[1] + b[1]) for name, (a, b) in pairs.items()}


class MetricStates:
    """What Keras metrics hold, set aside so that an evaluation can use them meanwhile.

    Example:
        >>> aside = MetricStates([metric])   # remembers and resets
        >>> metric.update_state(y_val, p_val)
        >>> aside.restore()
    """

    def __init__(self, metrics: list[keras.Metric]) -> None:
        unique = {id(metric): metric for metric in metrics}.values()
        self._known = {id(metric) for metric in metrics}
        self._values = [(v, v.numpy()) for metric in unique for v in metric.variables]
        for metric in unique:
            metric.reset_state()

    def restore(self, used: Iterable[keras.Metric] = ()) -> None:
        """Put the remembered values back, and reset those of `used` that were not remembered.

        Where steps run in Python, a metric is met for the first time in a step.
        """
        for metric in used:
            if id(metric) not in self._known:
                metric.reset_state()
        for variable, value in self._values:
            variable.assign(value)
