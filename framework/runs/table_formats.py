"""Prints a comparison as a terminal table, CSV, JSON or Markdown."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any

from framework.runs.comparison_table import Comparison, Row

_WIDE = 1_000  # columns of a table that goes to a file


def as_terminal_table(comparison: Comparison) -> None:
    """Print the comparison for a terminal; in a pipe or a file, lines are not wrapped."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from framework.text.tables import cell

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    numbers = {*comparison.metrics, "time"}
    header, rows = _cells(comparison)
    for title in header:
        right = title in numbers
        table.add_column(
            cell(title), justify="right" if right else "left", no_wrap=right, overflow="fold"
        )
    for row, words in zip(comparison.rows, rows, strict=True):
        table.add_row(*map(cell, words), style="bold green" if row.best else None)
    Console(width=None if sys.stdout.isatty() else _WIDE).print(table)


def as_csv(comparison: Comparison) -> str:
    """Return the comparison as CSV, with numbers in full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    entries = _entries(comparison)
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    writer.writerow(names)
    for entry in entries:
        writer.writerow(["" if entry.get(n) is None else entry[n] for n in names])
    return text.getvalue()


def as_json(comparison: Comparison) -> str:
    """Return the comparison as JSON: the objective, its direction, and a list of rows."""
    rows = [
        {name: _strict(value) for name, value in entry.items()} for entry in _entries(comparison)
    ]
    content = {"objective": comparison.objective, "direction": comparison.direction, "runs": rows}
    return json.dumps(content, indent=2, allow_nan=False) + "\n"


def as_markdown(comparison: Comparison) -> str:
    """Return the comparison as a Markdown table, the best row in bold."""
    header, rows = _cells(comparison)
    right = {*comparison.metrics, "time"}
    lines = ["| " + " | ".join(header) + " |"]
    lines.append("|" + "|".join(" ---: " if name in right else " --- " for name in header) + "|")
    for row, words in zip(comparison.rows, rows, strict=True):
        escaped = [word.replace("|", "\\|") for word in words]
        shown = [f"**{word}**" if row.best and word else word for word in escaped]
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "table": as_markdown,
    "csv": as_csv,
    "json": as_json,
    "markdown": as_markdown,
}
"""The formats by name; the command prints `table` with colors."""


def _cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    grouped = any(len(row.runs) > 1 for row in comparison.rows)
    header = ["n" if grouped else "run", *comparison.options, "status", *comparison.metrics]
    header += ["time", ""]
    rows = []
    for row in comparison.rows:
        options = [_short(row.options[key]) for key in comparison.options]
        metrics = [_metric(row, name) for name in comparison.metrics]
        first = str(len(row.runs)) if grouped else row.runs[0].name
        rows.append([first, *options, row.status, *metrics, _time(row.seconds), "best" * row.best])
    return header, rows


def _entries(comparison: Comparison) -> list[dict[str, Any]]:
    """Return each row as values by name."""
    grouped = any(len(row.runs) > 1 for row in comparison.rows)
    entries = []
    for row in comparison.rows:
        entry: dict[str, Any] = {"run": " ".join(run.name for run in row.runs)}
        if grouped:
            entry["n"] = len(row.runs)
        entry |= {key: row.options[key] for key in comparison.options}
        entry["status"] = row.status
        for name in comparison.metrics:
            entry[name] = row.metrics.get(name)
            if grouped:
                entry[f"{name} sd"] = row.spread.get(name)
        entry |= {"time": row.seconds, "best": row.best}
        entries.append(entry)
    return entries


def _metric(row: Row, name: str) -> str:
    if name not in row.metrics:
        return ""
    spread = f" ± {_number(row.spread[name])}" if name in row.spread else ""
    return _number(row.metrics[name]) + spread


def _number(value: float) -> str:
    small = value == 0 or 1e-3 <= abs(value) < 1e5
    return f"{value:.4f}" if small else f"{value:.3g}"


def _short(value: Any) -> str:
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _strict(value: Any) -> Any:
    if isinstance(value, float) and value - value != 0:  # NaN and infinity are not JSON
        return None
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)
