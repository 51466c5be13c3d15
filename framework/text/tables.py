"""Tables in messages."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING, Any

from framework.text.escape import one_line

if TYPE_CHECKING:
    from rich.text import Text


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], most: int = 12) -> str:
    """Return a table as indented text for the message of a `UserError`.

    Example:
        >>> print(table(["option", "started with", "now"], [["seed", 0, 1]]))
           option   started with   now
           ───────────────────────────
           seed     0              1

    Args:
        columns: The column titles.
        rows: One value per column.
        most: The number of rows to show; a last line counts the others.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in columns:
        made.add_column(cell(title))
    for row in rows[:most]:
        made.add_row(*map(cell, row))
    if len(rows) > most:
        made.add_row(f"and {len(rows) - most} more", *[""] * (len(columns) - 1))
    # In a notebook, rich would show it there instead.
    console = Console(file=StringIO(), width=100, force_jupyter=False)
    console.print(made)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join("  " + line.rstrip() for line in text.splitlines() if line.strip())


def cell(value: Any, style: str = "") -> Text:
    """Return a value as a table cell, literally and never as Rich markup."""
    from rich.text import Text

    return Text(one_line(value), style)
