"""Finds the objects that a task and its models reference, by path."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Set
from types import FunctionType, MethodType, ModuleType
from typing import Any

import keras
import tensorflow as tf

from framework.compat import layers_within

_DEEPEST, _LONGEST = 12, 1000  # longer lists hold data
_CONTAINERS = (list, tuple, set, frozenset, deque, Mapping)
_TRACKING = ("_self_", "_tracked", "_obj_reference")  # TensorFlow's attribute tracking
# Objects of these libraries do not have variables of the user, and may be large.
_LIBRARIES = ("framework", "keras", "tensorflow", "numpy", "builtins", "weakref", "threading")


def reachable(root: Mapping[str, Any]) -> Iterator[tuple[str, Any, bool]]:
    """Find the variables in values, in their attributes, and in lists and dicts of them.

    Yields the path of a variable, the variable, and whether it is a trainable weight of a layer,
    which only an optimizer changes unless a step assigns it.

    Example:
        >>> [name for name, _, _ in reachable({"head": [tf.Variable(0.0)]})]
        ['head/0/0']
    """
    met: set[int] = set()
    for name, value in _walk(root):
        own = isinstance(value, keras.Layer)
        for i, variable in enumerate(_variables_of(value)):
            if id(variable) not in met:
                met.add(id(variable))
                yield f"{name}/{i}", variable, own and bool(variable.trainable)


def saved_by_keras(root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the layers, optimizers and metrics in values by path, including inner layers.

    Their names do not identify them: Keras numbers names by the objects created in a process.

    Example:
        >>> list(saved_by_keras({"parts": [keras.Sequential([keras.layers.Dense(1)])]}))
        ['parts/0/0', 'parts/0/1']
    """
    found: dict[int, tuple[str, Any]] = {}
    for name, value in _walk(root):
        if isinstance(value, keras.Layer):
            for i, layer in enumerate(layers_within(value)):
                found.setdefault(id(layer), (f"{name}/{i}", layer))
        elif isinstance(value, (keras.Optimizer, keras.Metric)):
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def _walk(root: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the path and the object for values, their attributes, and containers of them."""
    met: set[int] = set()

    def search(value: Any, name: str, depth: int) -> Iterator[tuple[str, Any]]:
        if id(value) in met or depth > _DEEPEST:
            return
        met.add(id(value))
        if isinstance(value, _CONTAINERS) and len(value) > _LONGEST:
            return
        if isinstance(value, (set, frozenset)) and len(value) > 1:
            return  # the order differs between processes
        if isinstance(value, _CONTAINERS):
            items = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, each in items:
                yield from search(each, f"{name}/{key}", depth + 1)
            return
        yield name, value
        for attribute, each in _attributes(value):
            yield from search(each, f"{name}/{attribute}", depth + 1)

    for name, value in root.items():
        yield from search(value, name, 0)


def handles(variable: Any) -> Set[int]:
    """Return the ids of a variable's handles, one per device, which identify it in a graph."""
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
    """Yield the attributes of an object that may have variables unknown to Keras."""
    if isinstance(value, keras.Layer):
        for i, layer in enumerate(layers_within(value)):
            if layer is not value and type(layer).__module__.startswith("keras."):
                continue  # Keras's own layers have none
            for name, each in vars(layer).items():
                if not name.startswith(_TRACKING) and _may_hold(each):
                    yield name if layer is value else f"{i}.{name}", each
    elif _may_hold(value):
        yield from getattr(value, "__dict__", {}).items()
        for kind in type(value).__mro__:
            slots = vars(kind).get("__slots__", ())
            for name in (slots,) if isinstance(slots, str) else slots:
                if name != "__dict__" and hasattr(value, name):
                    yield name, getattr(value, name)


def _may_hold(value: Any) -> bool:
    if isinstance(value, (tf.Variable, list, tuple, dict, set, deque)):
        return True
    if isinstance(value, (type, ModuleType, FunctionType, MethodType, keras.Layer)):
        return False
    return type(value).__module__.partition(".")[0] not in _LIBRARIES
