"""Copies a training set that keeps a position, so that reading the copy moves nothing."""

from __future__ import annotations

import copy
from typing import Any

import keras
import tensorflow as tf


def unread(train: Any) -> Any:
    """Return a training set that gives the same batches, and leaves the given one where it is.

    A shuffled `tf.data.Dataset` has another order in every iteration, so even an iteration that
    only looks at it would change the next one.

    Example:
        >>> dataset = tf.data.Dataset.range(9).shuffle(9, seed=1)
        >>> first = [int(each) for each in unread(dataset)]
        >>> first == [int(each) for each in dataset]
        True

    Args:
        train: See `Data`. Arrays and functions keep no position and are returned as they are.
    """
    if isinstance(train, tf.data.Dataset):
        graph = tf.compat.v1.GraphDef.FromString(_graph_of(train))
        # The copy makes generators of its own, in place of the handles of the original's.
        for node in graph.node:
            if node.op == "Const" and node.attr["dtype"].type == tf.resource.as_datatype_enum:
                node.op = "DummySeedGenerator"
                node.attr.clear()
        variant = tf.raw_ops.DatasetFromGraph(graph_def=graph.SerializeToString())
        return tf.data.experimental.from_variant(variant, train.element_spec)
    return copy.deepcopy(train) if isinstance(train, keras.utils.PyDataset) else train


def _graph_of(dataset: tf.data.Dataset) -> bytes:
    variant = tf.data.experimental.to_variant(dataset)
    graph = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=1)
    return bytes(graph.numpy())
