"""Prints a summary of the model, and of the run, before training."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from framework.callback import Callback, RunView
from framework.callbacks.live_line import Screen, erase
from framework.callbacks.run_facts import count, facts_of, kind
from framework.callbacks.shapes import Seen, layers_of, output_shapes, shape_text
from framework.text.tables import cell


class ModelSummary(Callback):
    """Print the model's layers, its size, the data, and where it runs, before the first step.

    The layers of a nested model are listed too, one level deep. A long list is shortened in the
    middle. An unknown output shape is shown as `?`; an unknown dimension, such as the batch size,
    as None. Weights shared by several layers or models are counted once in the totals.

    Example:
        >>> ModelSummary(max_rows=20).max_rows
        20

    Args:
        max_rows: Maximum number of rows per model; 4 or more.
        console: Where to print. Default: standard output.
        layers: What was seen of the layers in a batch, by id, for a column of their costs.
        rows: The examples in that batch.
    """

    def __init__(
        self,
        max_rows: int = 40,
        console: Console | None = None,
        *,
        layers: Mapping[int, Seen] | None = None,
        rows: int = 1,
    ) -> None:
        self.max_rows = max(4, max_rows)
        self._console, self._layers, self._batch = console, layers, rows

    def on_fit_start(self, run: RunView) -> None:
        """Print the summary."""
        console = self._console or Screen(highlight=False)
        erase()
        models = models_by_name(run.task.model)
        for name, one in models.items():
            title = f"{name or one.name}: {kind(one)}"
            console.print(cell(title, "bold"), soft_wrap=True)
            _print_table(console, self._table(one))
        _print_facts(console, facts_of(run))

    def print_lines(self, lines: Iterable[str]) -> None:
        """Print lines below the summary."""
        console = self._console or Screen(highlight=False)
        for line in lines:
            console.print(Text(line), soft_wrap=True)

    def _table(self, model: Any) -> Table:
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for heading in ("layer", "type", "output shape"):
            table.add_column(heading)
        seen = self._layers or {}
        shapes = output_shapes(model)
        shapes |= {
            key: _of_any_batch(each.shapes, self._batch)
            for key, each in seen.items()
            if shapes.get(key) == "?"
        }
        rows = _cut(list(_rows(model, shapes, seen)), self.max_rows)
        table.add_column("parameters", justify="right", no_wrap=True)
        if self._layers is not None:
            table.add_column("FLOPs", justify="right", no_wrap=True)
        for row in rows:
            words = [cell(word) for word in (row.name, row.type, row.shape)]
            for word in words:  # a narrow terminal truncates these, never a number
                word.no_wrap, word.overflow = True, "ellipsis"
            flops = [] if self._layers is None else [f"{row.flops // self._batch:,}"]
            table.add_row(*words, f"{row.count:,}", *flops)
        return table


def models_by_name(model: Any) -> dict[str, Any]:
    """Return a task's models by name; a single one has no name."""
    return dict(model) if isinstance(model, Mapping) else {"": model}


@dataclass(frozen=True)
class _Row:
    name: str
    type: str
    shape: str
    count: int
    nested: bool = False
    flops: int = 0


def _of_any_batch(shapes: Any, rows: int) -> str:
    """Return shapes as text, with None for the number of rows that they were traced with."""
    opened = keras.tree.map_shape_structure(
        lambda shape: (None, *shape[1:]) if shape[:1] == (rows,) else shape, shapes
    )
    return shape_text(opened)


def _rows(
    model: Any, shapes: Mapping[int, str], seen: Mapping[int, Seen], nested: bool = False
) -> Iterable[_Row]:
    for layer in layers_of(model):
        name = ("  " if nested else "") + layer.name
        shape = shapes.get(id(layer), "?")
        flops = seen[id(layer)].flops if id(layer) in seen else 0
        yield _Row(name, type(layer).__name__, shape, count(layer.weights), nested, flops)
        if isinstance(layer, keras.Model) and not nested:
            yield from _rows(layer, shapes, seen, nested=True)


def _cut(rows: list[_Row], limit: int) -> list[_Row]:
    """Replace the middle of a long list with one row that says how much is missing."""
    if len(rows) <= limit:
        return rows
    tail = limit // 3
    head = limit - tail - 1
    missing = rows[head : len(rows) - tail]
    # A nested layer is counted in its model's own row.
    hidden = sum(row.count for row in missing if not row.nested)
    flops = sum(row.flops for row in missing if not row.nested)
    left_out = _Row(f"... {len(missing)} more", "", "", hidden, False, flops)
    return [*rows[:head], left_out, *rows[-tail:]]


def _print_table(console: Console, table: Table) -> None:
    """Print a table; outside a terminal, without lines and without truncating cells."""
    if console.is_terminal:
        console.print(table)
        console.print()
        return
    table.box = None
    table.padding = (0, 3, 0, 0)
    options = console.options.update(max_width=10_000)
    width = Measurement.get(console, options, table).maximum
    Screen(file=console.file, width=width, color_system=None).print(table)
    console.print()


def _print_facts(console: Console, facts: Mapping[str, Sequence[str]]) -> None:
    """Print one line per fact, aligned; on a narrow terminal, a fact continues below itself."""
    indent = max(map(len, facts)) + 2
    width = console.width if console.is_terminal else 0
    for title, parts in facts.items():
        text = ", ".join(parts)
        lines = textwrap.wrap(text, max(20, width - indent)) if width else [text]
        for number, line in enumerate(lines or [""]):
            head = Text(title.ljust(indent) if not number else " " * indent, "bright_black")
            console.print(Text.assemble(head, line), soft_wrap=True)
