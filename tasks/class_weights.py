"""How much each row counts in a loss: by its class, and by a weight of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from framework import UserError

_WHERE = "task.class_weight"


class ClassWeights:
    """The weight of each class in a loss, checked against the training labels.

    The labels are class numbers or one-hot rows. They are counted once for each `fit`, and only
    those that are trained on: not the rows of a validation set, nor those of `val_fraction`.

    Example:
        >>> ClassWeights({0: 1, 1: 5}).table(lambda: None)
        array([1., 5.], dtype=float32)

    Args:
        given: Weights by class number; a class without one weighs 1. `balanced`: n / (k * count)
            for n rows and k classes, so that all classes weigh the same in total. None: all 1.

    Raises:
        UserError: If it is something else, or a weight is negative.
    """

    def __init__(self, given: Mapping[int, float] | str | None) -> None:
        if isinstance(given, str) and given != "balanced":
            _refuse(given)
        self._given: Any = given
        if given is not None and not isinstance(given, str):
            if not isinstance(given, Mapping) or not given:
                _refuse(given)
            self._given = {key: _checked(key, weight) for key, weight in given.items()}
        self._table: np.ndarray | None = None

    def __bool__(self) -> bool:
        """Whether classes have weights."""
        return self._given is not None

    def forget(self) -> None:
        """Forget what was counted: another `fit` may have other data."""
        self._table = None

    @tf.autograph.experimental.do_not_convert
    def table(self, batches: Callable[[], Any]) -> np.ndarray:
        """Return the weights by class number.

        Args:
            batches: Returns one epoch of the training batches (`Task.train_data`), to be counted
                unless they were; None if they are not known.

        Raises:
            UserError: If the data lack a class that has a weight, or have no end to count to.
        """
        if self._table is None:
            with tf.init_scope():  # a step that is being compiled may ask
                self._table = self._counted(batches())
        return self._table

    def _counted(self, batches: Any) -> np.ndarray:
        endless = batches is not None and int(batches.cardinality()) == tf.data.INFINITE_CARDINALITY
        if self._given == "balanced" and (batches is None or endless):
            raise UserError(
                "classes can be balanced only if the training labels can be counted",
                where=_WHERE,
                fix="Give data with an end, or the weights themselves: {0: 1, 1: 5}.",
            )
        if batches is None or endless:
            return _filled(self._given)
        counts: dict[int, int] = {}
        for labels in batches.map(lambda *batch: batch[1]).as_numpy_iterator():
            pairs = np.unique(_class_numbers(labels), return_counts=True)
            for key, count in zip(*map(np.ndarray.tolist, pairs), strict=True):
                counts[key] = counts.get(key, 0) + count
        if self._given == "balanced":
            total = sum(counts.values())
            return _filled({key: total / (len(counts) * n) for key, n in counts.items()})
        lacking = [str(key) for key in self._given if key not in counts]
        if lacking:
            raise UserError(
                f"no training row has class {', '.join(lacking)}, which has a weight",
                where=_WHERE,
                fix=f"The classes are {', '.join(map(str, sorted(counts)))}.",
            )
        return _filled(self._given, max(counts))


def of_classes(labels: tf.Tensor, table: np.ndarray) -> tf.Tensor:
    """Return the weight of each row by its label: a class number, or a one-hot row."""
    labels = tf.convert_to_tensor(labels)
    one_hot = labels.shape.rank == 2 and labels.shape[1] != 1
    numbers = tf.argmax(labels, -1) if one_hot else tf.reshape(tf.cast(labels, tf.int64), [-1])
    return tf.gather(tf.constant(table), numbers)


def of_rows(weights: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Return the batch's own weights as [rows] in float32.

    Raises:
        UserError: If they are not one number for each row.
    """
    weights, labels = tf.convert_to_tensor(weights), tf.convert_to_tensor(labels)
    rank, rows = weights.shape.rank, labels.shape[0]
    fits = rank == 1 or (rank == 2 and weights.shape[1] == 1)
    if not fits or (None not in (rows, weights.shape[0]) and rows != weights.shape[0]):
        raise UserError(
            f"the weights have the shape {tuple(weights.shape)}",
            where="the third part of a batch",
            fix="Give one number for each row: Data(train=(x, y, weights)).",
        )
    return tf.reshape(tf.cast(weights, tf.float32), [-1])


def _filled(weights: Mapping[int, float], last: int = 0) -> np.ndarray:
    table = np.ones(max([last, *weights]) + 1, "float32")
    for key, weight in weights.items():
        table[key] = weight
    return table


def _class_numbers(labels: np.ndarray) -> np.ndarray:
    labels = np.asarray(labels)
    one_hot = labels.ndim == 2 and labels.shape[1] != 1
    return labels.argmax(-1) if one_hot else labels.reshape(-1).astype("int64")


def _checked(key: Any, weight: Any) -> float:
    if type(key) is not int or key < 0:
        raise UserError(
            f"{key!r} is not the number of a class", where=_WHERE, fix="Give {0: 1, 1: 5}."
        )
    number = isinstance(weight, (int, float)) and not isinstance(weight, bool)
    if not number or not 0 <= weight < float("inf"):
        raise UserError(
            f"the weight of class {key} is {weight!r}", where=_WHERE, fix="Give 0 or more."
        )
    return float(weight)


def _refuse(given: Any) -> None:
    raise UserError(
        f"class_weight is {given!r}",
        where=_WHERE,
        fix="Give balanced, or weights by class: {0: 1, 1: 5}.",
    )
