"""Supports batches with rows along another axis than the first."""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from framework.errors import UserError

_WHERE = "data.rows_axis"


def axes_of(batch: Any, rows_axis: Any) -> list[int | None]:
    """Return the axis of the rows for each leaf of a batch, or None if it has no rows.

    Example:
        >>> axes_of({"x": x, "y": y}, {"x": 1, "y": 0}), axes_of((x, y), 1)
        ([1, 0], [1, 1])
    """
    if isinstance(rows_axis, numbers.Integral):
        return [int(rows_axis)] * len(tf.nest.flatten(batch))
    try:
        tf.nest.assert_same_structure(batch, rows_axis, check_types=False)
    except (TypeError, ValueError):
        shown = tf.nest.map_structure(lambda _: 0, batch)
        raise UserError(
            f"rows_axis is {rows_axis!r}, which does not have the structure of a batch",
            where=_WHERE,
            fix=f"Give one axis for all leaves, or a nest of this form: {shown}.",
        ) from None
    return list(tf.nest.flatten(rows_axis))


def map_rows(function: Callable[[Any, int], Any], batch: Any, rows_axis: Any) -> Any:
    """Apply a function of a leaf and its rows axis to each leaf that has this axis."""

    def each(leaf: Any, axis: int | None) -> Any:
        shape = leaf.shape if hasattr(leaf, "shape") else tf.convert_to_tensor(leaf).shape
        rank = tf.TensorShape(shape).rank
        return leaf if axis is None or (rank is not None and rank <= axis) else function(leaf, axis)

    axes = axes_of(batch, rows_axis)
    leaves = [each(*pair) for pair in zip(tf.nest.flatten(batch), axes, strict=True)]
    return tf.nest.pack_sequence_as(batch, leaves)


def rows_open(spec: Any, rows_axis: Any) -> Any:
    """Return the specs of a batch with an unknown number of rows."""
    return map_rows(_open_at, spec, rows_axis)


def rows_of_specs(
    spec: Any, rows_axis: Any
) -> tuple[list[tf.TensorSpec], list[int | None], int | None]:
    """Return which leaves of a batch hold its rows.

    Example:
        >>> rows_of_specs((tf.TensorSpec([8, 3]), tf.TensorSpec([5])), 0)[1:]
        ([0, None], 8)

    Returns:
        The specs of the leaves, with an unknown number of rows; the rows axis of each leaf, or
        None if it has no rows; and the number of rows, or None if it is unknown.
    """
    leaves, axes = tf.nest.flatten(spec), axes_of(spec, rows_axis)
    has_axis = [
        axis is not None and (leaf.shape.rank or 0) > axis
        for leaf, axis in zip(leaves, axes, strict=True)
    ]
    triples = list(zip(leaves, axes, has_axis, strict=True))
    lengths = [leaf.shape[axis] for leaf, axis, has in triples if has]
    rows = None if None in lengths or not lengths else lengths[0]
    found = [axis if has and leaf.shape[axis] == rows else None for leaf, axis, has in triples]
    opened = [
        leaf if axis is None else _open_at(leaf, axis)
        for leaf, axis in zip(leaves, found, strict=True)
    ]
    return opened, found, rows


def _open_at(spec: tf.TensorSpec, axis: int) -> tf.TensorSpec:
    if spec.shape.rank is None:
        return spec
    shape = list(spec.shape)
    shape[axis] = None
    return tf.TensorSpec(shape, spec.dtype)


def rows_first(arrays: Any, rows_axis: Any, name: str, held: dict[Any, Any]) -> Any:
    """Return views of arrays with their rows on the first axis, each created once and `held`."""

    def view(array: Any, axis: int | None) -> Any:
        if axis is None or np.ndim(array) <= axis:
            raise UserError(
                f"an array of the {name} set has no axis {axis} for rows: its shape is "
                f"{np.shape(array)}",
                where=_WHERE,
                fix="Give the axis of each array: (1, 0) for x of shape [time, rows] and y of "
                "[rows].",
            )
        if axis == 0:
            return array
        key = (id(array), axis)
        if key not in held:
            held[key] = array, np.moveaxis(np.asarray(array), axis, 0)  # both, to keep their ids
        return held[key][1]

    pairs = zip(tf.nest.flatten(arrays), axes_of(arrays, rows_axis), strict=True)
    return tf.nest.pack_sequence_as(arrays, [view(*pair) for pair in pairs])


def rows_back(batch: Any, rows_axis: Any) -> Any:
    """Move the rows of a batch from the first axis back to their own axis, in the graph."""

    def back(leaf: Any, axis: int) -> tf.Tensor:
        rank = leaf.shape.rank
        return tf.transpose(leaf, [*range(1, axis + 1), 0, *range(axis + 1, rank)])

    return map_rows(back, batch, rows_axis)
