"""The operations of a graph, including the functions that it calls."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from framework.compat import called_function


def operations(graph: tf.Graph) -> list[tf.Operation]:
    """Return the operations of a graph and of all functions that it calls."""
    found: list[tf.Operation] = []
    seen: set[str] = set()
    graphs = [graph]
    while graphs:
        each: Any = graphs.pop()
        found += each.get_operations()
        for operation in each.get_operations():
            for value in operation.node_def.attr.values():
                for name in (value.func.name, *(function.name for function in value.list.func)):
                    called = called_function(each, name) if name and name not in seen else None
                    if called is not None:
                        seen.add(name)
                        graphs.append(called)
    return found
