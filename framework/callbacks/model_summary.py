"""Prints a summary of the model before training."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from framework.callback import Callback
from framework.callbacks.live_line import Screen
from framework.callbacks.shapes import Seen, layers_of, output_shapes, shape_text
from framework.text.tables import cell

if TYPE_CHECKING:
    from framework.callback import RunView

_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class ModelSummary(Callback):
    """Print the model's layers, size, precision and device before the first step.

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
        models = models_by_name(run.task.model)
        for name, one in models.items():
            title = f"{name or one.name}: {_kind(one)}"
            console.print(cell(title, "bold"), soft_wrap=True)
            _print_table(console, self._table(one))
        for line in _totals(list(models.values())):
            console.print(Text(line), soft_wrap=True)
        used = f"precision {run.config.precision}, device {_device(run, models.values())}"
        console.print(Text(used), soft_wrap=True)

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


def _kind(model: Any) -> str:
    import keras

    kind = type(model).__name__
    return "functional model" if type(model) is keras.Model or kind == "Functional" else kind


def _of_any_batch(shapes: Any, rows: int) -> str:
    """Return shapes as text, with None for the number of rows that they were traced with."""
    import keras

    opened = keras.tree.map_shape_structure(
        lambda shape: (None, *shape[1:]) if shape[:1] == (rows,) else shape, shapes
    )
    return shape_text(opened)


def _rows(
    model: Any, shapes: Mapping[int, str], seen: Mapping[int, Seen], nested: bool = False
) -> Iterable[_Row]:
    import keras

    for layer in layers_of(model):
        name = ("  " if nested else "") + layer.name
        shape, count = shapes.get(id(layer), "?"), _count(layer.weights)
        flops = seen[id(layer)].flops if id(layer) in seen else 0
        yield _Row(name, type(layer).__name__, shape, count, nested, flops)
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
    count = sum(row.count for row in missing if not row.nested)
    flops = sum(row.flops for row in missing if not row.nested)
    return [
        *rows[:head],
        _Row(f"... {len(missing)} more", "", "", count, False, flops),
        *rows[-tail:],
    ]


def _totals(models: list[Any]) -> Iterable[str]:
    trainable = _unique(weight for model in models for weight in model.trainable_weights)
    every = _unique(weight for model in models for weight in model.weights)
    total, learned = _count(every), _count(trainable)
    size = sum(_count([weight]) * _bits(weight.dtype) / 8 for weight in every)
    yield (
        f"{total:,} parameters ({_size(size)}): "
        f"{learned:,} trainable, {total - learned:,} not trainable"
    )


def _unique(weights: Iterable[Any]) -> list[Any]:
    return list({id(weight): weight for weight in weights}.values())


def _count(weights: Iterable[Any]) -> int:
    return sum(math.prod(weight.shape) for weight in weights)


def _bits(dtype: str) -> int:
    digits = re.search(r"\d+", str(dtype))
    return int(digits[0]) if digits else 8


def _size(count: float) -> str:
    power = min(len(_UNITS) - 1, int(math.log(count, 1000)) if count >= 1 else 0)
    return f"{count / 1000**power:.{1 if power else 0}f} {_UNITS[power]}"


def _device(run: RunView, models: Iterable[Any]) -> str:
    """Return the device that has the weights, since `auto` does not say which."""
    for model in models:
        for weight in model.weights:
            place = str(getattr(weight.value, "device", ""))
            return place.rpartition("device:")[2] or str(run.config.device)
    return str(run.config.device)


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
    Console(file=console.file, width=width, color_system=None).print(table)
    console.print()
