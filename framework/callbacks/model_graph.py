"""Traces the graph of a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from framework.compat import clear_losses


def model_graph(models: Mapping[str, Any]) -> Any:
    """Return the graph of the models' forward passes, without training.

    Example:
        >>> graph = model_graph({"": keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])})
        >>> "MatMul" in {node.op for node in graph.node}
        True

    Args:
        models: Built models by name. One whose input shapes are unknown is left out.

    Returns:
        A TensorFlow `GraphDef`.
    """
    inputs = {name: _input_specs(model) for name, model in models.items()}

    def forward(given: dict[str, Any]) -> list[Any]:
        outputs = []
        for name, value in given.items():
            with tf.name_scope(name or models[name].name):
                outputs.append(models[name](value, training=False))
        return outputs

    known = {name: specs for name, specs in inputs.items() if specs is not None}
    graph = tf.function(forward).get_concrete_function(known).graph
    for model in models.values():
        clear_losses(model)  # of `add_loss`, as symbols of this graph
    return graph.as_graph_def()


def _input_specs(model: Any) -> Any:
    """Return the specs of a model's input, or None if they are unknown."""
    try:
        known = model.input  # functional and Sequential
        return keras.tree.map_structure(lambda one: tf.TensorSpec(one.shape, one.dtype), known)
    except (AttributeError, ValueError):
        config = model.get_build_config() if model.built else None
        shape = config and config.get("input_shape")
        if not isinstance(shape, (tuple, list)) or not all(
            size is None or type(size) is int for size in shape
        ):
            return None
        return tf.TensorSpec(tuple(shape), model.compute_dtype)
