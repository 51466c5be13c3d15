"""What a format cannot express, by the layer that needs it."""

from __future__ import annotations

from collections.abc import Iterable

from framework.errors import UserError
from framework.serving.trained import Trained


def unsupported(
    name: str,
    kinds: Iterable[str],
    trained: Trained,
    reason: str = "",
    place: str = "",
) -> UserError:
    """Return the message for operations that a format does not have.

    Args:
        name: The format.
        kinds: The types of the operations, if they are known.
        trained: The task that uses them.
        reason: What the converter said.
        place: Where, if it said that.
    """
    found = sorted(set(kinds))
    task = type(trained.task).__name__
    places = [
        op.name if "/" in op.name else f"{op.name} in {task}.predict_step or Data.map"
        for op in trained.answers.function.graph.get_operations()
        if op.type in found
    ]
    what = ", ".join(found) or next(iter(reason.strip().splitlines()), "an operation")
    return UserError(
        f"the format {name} has no {what}" if found else f"the format {name} fails: {what[:200]}",
        where=", ".join(places[:3]) or place or task,
        fix="Use another operation there, or export to another format.",
    )


def operations_of(trained: Trained) -> set[str]:
    """Return the types of all operations that a task's predictions use."""
    graph = trained.answers.function.graph.as_graph_def()
    inner = [node for function in graph.library.function for node in function.node_def]
    return {node.op for node in (*graph.node, *inner)}
