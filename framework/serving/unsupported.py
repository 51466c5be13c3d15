"""What a format cannot express, by the layer that needs it."""

from __future__ import annotations

from collections.abc import Iterable

from framework.errors import UserError
from framework.serving.trained import Trained


def unsupported(
    name: str,
    kinds: Iterable[str],
    trained: Trained,
    error: Exception | None,
    where: str | None = None,
) -> UserError:
    """Return the message for operations that a format does not have.

    Args:
        name: The format.
        kinds: The types of the operations, if they are known.
        trained: The task that uses them.
        error: What the converter raised.
        where: The place in the graph, if it is known.
    """
    found = sorted(set(kinds))
    places = [
        operation.name.removeprefix("StatefulPartitionedCall/")
        for operation in trained.answers.concrete().graph.get_operations()
        if operation.type in found
    ]
    lines = str(error).strip().splitlines() if error else []
    what = ", ".join(found) or (lines[0] if lines else "an operation")
    return UserError(
        f"the format {name} has no {what}" if found else f"the format {name} fails: {what}",
        where=where or ", ".join(places[:3]) or type(trained.task).__name__,
        fix="Use another operation there, or export to a format that has it, such as saved_model.",
    )
