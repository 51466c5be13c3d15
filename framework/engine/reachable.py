"""The variables that can be reached from a task and its models, by the way to each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from types import FunctionType, MethodType, ModuleType
from typing import Any

import keras
import tensorflow as tf

_DEEPEST = 12
_TRACKING = ("_self_", "_tracked", "_obj_reference")  # TensorFlow's book-keeping of attributes
# Objects of these are no place where a user keeps a variable, and may be large.
_LIBRARIES = ("framework", "keras", "tensorflow", "numpy", "builtins", "weakref", "threading")


def reachable(root: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Find the variables in values, in their attributes, and in lists and dicts of them.

    Example:
        >>> [name for name, _, _ in reachable({"head": [tf.Variable(0.0)]})]
        ['head/0/0']

    Args:
        root: What to search, by name: a task's attributes, or its models.

    Yields:
        The way to a variable, the variable, and whether it is a layer's weight, which changes by
        an optimizer alone unless a step assigns it.
    """
    met: set[int] = set()

    def search(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any, bool]]:
        if id(value) in met or depth > _DEEPEST:
            return
        met.add(id(value))
        if isinstance(value, (list, tuple, set, frozenset)):
            for i, each in enumerate(value):
                yield from search(each, f"{name}/{i}", depth + 1)
            return
        if isinstance(value, Mapping):
            for key, each in value.items():
                yield from search(each, f"{name}/{key}", depth + 1)
            return
        own = isinstance(value, keras.Layer)
        for i, variable in enumerate(_variables_of(value)):
            met.add(id(variable))
            yield f"{name}/{i}", variable, own and bool(variable.trainable)
        for attribute, each in _attributes(value):
            yield from search(each, f"{name}/{attribute}", depth + 1)

    for name, value in root.items():
        yield from search(value, name, 0)


def handles(variable: Any) -> Set[int]:
    """Return what tells a variable from others in a graph: its handles, one for each device."""
    plain = variable.value if isinstance(variable, keras.Variable) else variable
    return {id(each.handle) for each in getattr(plain, "values", (plain,))}


def _variables_of(value: Any) -> list[Any]:
    if isinstance(value, (keras.Variable, tf.Variable)):
        return [value]
    if isinstance(value, (keras.random.SeedGenerator, tf.random.Generator)):
        return [value.state]
    if isinstance(value, (keras.Layer, keras.Metric, keras.Optimizer, tf.Module)):
        return list(value.variables)
    return []


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    """Return where else an object may keep variables, which Keras does not know of."""
    if isinstance(value, keras.Layer):
        for layer in value._flatten_layers():
            if layer is not value and type(layer).__module__.startswith("keras."):
                continue  # Keras's own have none
            for name, each in vars(layer).items():
                if not name.startswith(_TRACKING) and _may_hold(each):
                    yield name if layer is value else f"{layer.name}.{name}", each
    elif _may_hold(value) and hasattr(value, "__dict__"):
        yield from vars(value).items()


def _may_hold(value: Any) -> bool:
    if isinstance(value, (tf.Variable, list, tuple, dict)):
        return True
    if isinstance(value, (type, ModuleType, FunctionType, MethodType, keras.Layer)):
        return False
    return type(value).__module__.partition(".")[0] not in _LIBRARIES
