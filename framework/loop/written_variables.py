"""Finds which variables a compiled step writes."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from framework.compat import called_function, is_resource, operations_seen

_WRITES = re.compile(
    r"Assign\w*VariableOp|Resource(Apply|Sparse|Scatter|Strided|Accumulator)\w+|Rng\w+|"
    r"Stateful(?!PartitionedCall)\w+|LookupTable(Insert|Import|Remove)\w*|IteratorGetNext\w*|"
    r"Queue(Enqueue|Dequeue)\w*|Stack(Push|Pop)\w*"
)
_ANY, _NOT_KNOWN = "a variable, a table, a queue or an iterator", ""
# Number of inputs of an operation before those that it passes to the functions it calls.
_BEFORE = {"If": 1, "StatelessIf": 1, "Case": 1, "StatelessCase": 1}


def written(function: Any) -> dict[int, str]:
    """Return the captured variables and tables that a concrete function writes, by handle."""
    graph = function.graph
    changed = _written_inputs(graph, {})
    places = {_key(tensor): number for number, tensor in enumerate(graph.inputs)}
    found = {
        id(outside): outside
        for outside, inside in graph.captures
        if places.get(_key(inside)) in changed
    }
    names = {id(variable.handle): variable.name for variable in graph.variables}
    return {key: names.get(key, _ANY) for key in found}


def named(handle: int, name: str) -> str | None:
    """Return the name of a written object; None if a step in Python has created and deleted it."""
    if name not in (_ANY, _NOT_KNOWN):
        return name
    for each in gc.get_objects():
        kind = type(each)
        if issubclass(kind, tf.Variable) and id(each.handle) == handle:
            return str(each.name)
        if is_resource(kind) and id(each.resource_handle) == handle:
            return f"the {kind.__name__} {getattr(each, '_name', None) or ''}".strip()
    return name or None


@contextmanager
def recorded(noted: dict[int, str]) -> Iterator[None]:
    """Record what operations that run in Python write during the body, as `written` does."""

    def note(kind: str | bytes, inputs: Any, *_: Any, **__: Any) -> None:
        text = kind if isinstance(kind, str) else kind.decode()
        if _WRITES.fullmatch(text) and inputs and inputs[0].dtype == tf.resource:
            noted.setdefault(id(inputs[0]), _NOT_KNOWN)

    with operations_seen(note):
        yield


def _written_inputs(graph: Any, known: dict[str, set[int]]) -> set[int]:
    """Return the indices of the inputs that a function's graph writes to."""
    places = {_key(tensor): number for number, tensor in enumerate(graph.inputs)}
    found: set[int] = set()
    for operation in graph.get_operations():
        resources = [(i, t) for i, t in enumerate(operation.inputs) if t.dtype == tf.resource]
        if not resources:
            continue
        if _WRITES.fullmatch(operation.type):
            changed = {i for i, _ in resources}
        else:
            before = _BEFORE.get(operation.type, 0)
            called = [_of_function(graph, name, known) for name in _called(graph, operation)]
            changed = {i for i, _ in resources for inputs in called if i - before in inputs}
        for i, tensor in resources:
            number = places.get(_key(tensor))
            if i in changed and number is not None:
                found.add(number)
    return found


def _of_function(graph: Any, name: str, known: dict[str, set[int]]) -> set[int]:
    if name not in known:
        known[name] = set()
        known[name] = _written_inputs(called_function(graph, name), known)
    return known[name]


def _called(graph: Any, operation: tf.Operation) -> list[str]:
    values = operation.node_def.attr.values()
    names = [n for v in values for n in (v.func.name, *(f.name for f in v.list.func))]
    return [name for name in names if name and called_function(graph, name) is not None]


def _key(tensor: Any) -> tuple[str, int]:
    while tensor.op.type == "Identity":
        tensor = tensor.op.inputs[0]
    return tensor.op.name, tensor.value_index
