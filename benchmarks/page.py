"""What a measurement shows: tables on the terminal, and in a page, each between its marks."""

from __future__ import annotations

import re
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.machine import describe


class Report:
    """Where tables go.

    Args:
        console: The terminal.
        page: A Markdown page as well, or None.
        command: What measures.
    """

    def __init__(self, console: Console, page: Path | None, command: str) -> None:
        self._console, self._page, self._command = console, page, command

    def head(self) -> None:
        """Say what is measured, and on what."""
        self._console.print(self._command)
        for line in describe():
            self._console.print(line)

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Show a table; its title begins with its name and a colon."""
        table = Table(title=title, title_justify="left", title_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column, justify="left" if number == 0 else "right")
        for row in rows:
            table.add_row(*row)
        self._console.print()
        self._console.print(table)
        if self._page is not None:
            name, _, about = title.partition(":")
            command = re.sub(r" --write \S+", "", self._command)
            command = re.sub(r"(?<=--data-dir )\S+", "DIR", command)  # where it lies is nobody's
            write(self._page, name, command, about.strip(), [columns, *rows])


def write(path: Path, name: str, command: str, title: str, table: list[list[str]]) -> None:
    """Put a table in the place of the one of the same name.

    Args:
        path: The page.
        name: What was measured. Where the page has no `<!-- name -->`, the table goes to its end.
        command: What measured it.
        title: What the table shows.
        table: Its columns' titles, then its rows.
    """
    where, software = describe()
    columns, *rows = ["| " + " | ".join(row) + " |" for row in table]
    rule = "| --- |" + " ---: |" * (len(table[0]) - 1)
    about = f"{title[:1].upper()}{title[1:]}. `{command}` on {where.partition(';')[0]}; {software}."
    text = "\n".join([f"<!-- {name} -->", about, "", columns, rule, *rows, f"<!-- /{name} -->"])
    page = path.read_text() if path.exists() else ""
    marks = re.compile(rf"<!-- {re.escape(name)} -->.*?<!-- /{re.escape(name)} -->", re.DOTALL)
    if marks.search(page):
        page = marks.sub(lambda _: text, page, count=1)
    else:
        page = f"{page.rstrip()}\n\n{text}\n".lstrip()
    path.write_text(page)
