"""Tables in messages."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import Any


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], most: int = 12) -> str:
    """Return a table as text, indented, for the message of a `UserError`.

    Example:
        >>> print(table(["option", "begun with", "now"], [["seed", 0, 1]]))
          option   begun with   now
         ───────────────────────────
          seed     0            1

    Args:
        columns: Their titles.
        rows: A value for each column.
        most: Show so many rows, and say how many more there are.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    made = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows[:most]:
        made.add_row(*map(str, row))
    if len(rows) > most:
        made.add_row(f"and {len(rows) - most} more", *[""] * (len(columns) - 1))
    console = Console(file=StringIO(), width=100)
    console.print(made)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join("  " + line.rstrip() for line in text.splitlines() if line.strip())
