"""Draws a comparison of runs: metric by option, learning curves, parallel coordinates."""

from __future__ import annotations

import base64
import csv
import html
import io
import math
from pathlib import Path
from typing import Any

import numpy as np

from framework.core.extras import require
from framework.core.safe_files import replacing
from framework.errors import UserError
from framework.runs.comparison_table import Comparison, Row
from framework.runs.finished_run import METRICS, RunRecord
from framework.runs.table_formats import as_markdown

_MOST_OPTIONS = 4
_SHADES = "viridis"


def write_plot(comparison: Comparison, path: Path) -> None:
    """Draw a comparison to a PNG file.

    Args:
        comparison: What to draw; it needs an objective.
        path: The file; an existing one is replaced.

    Raises:
        UserError: matplotlib is not installed, or there is nothing to draw.
    """
    picture = _png(comparison)
    with replacing(path) as file:
        file.write(picture)


def write_page(comparison: Comparison, path: Path) -> None:
    """Write one HTML page with the plot and the table; it needs no other file.

    Args:
        comparison: What to show; it needs an objective.
        path: The file; an existing one is replaced.

    Raises:
        UserError: matplotlib is not installed, or there is nothing to draw.
    """
    picture = base64.b64encode(_png(comparison)).decode()
    lines = as_markdown(comparison).splitlines()
    heading, *rows = [
        [word.strip() for word in line.strip("|").split(" | ")] for line in (lines[0], *lines[2:])
    ]
    head = "".join(f"<th>{html.escape(word)}</th>" for word in heading)
    body = "".join(
        "<tr{}>{}</tr>".format(
            ' class="best"' if row.best else "",
            "".join(f"<td>{html.escape(word.strip('*'))}</td>" for word in words),
        )
        for row, words in zip(comparison.rows, rows, strict=True)
    )
    title = html.escape(str(comparison.objective))
    page = _PAGE.format(title=title, picture=picture, head=head, body=body)
    with replacing(path) as file:
        file.write(page.encode())


_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px system-ui, sans-serif; margin: 2em auto; max-width: 1200px; color: #222; }}
img {{ max-width: 100%; }}
table {{ border-collapse: collapse; margin-top: 1.5em; }}
th, td {{ padding: .35em .9em; text-align: left; border-bottom: 1px solid #ddd; }}
th {{ cursor: pointer; border-bottom: 2px solid #888; }}
.best {{ font-weight: 600; background: #eaf6ea; }}
</style></head><body>
<img alt="The comparison of the runs by {title}" src="data:image/png;base64,{picture}">
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
<script>
document.querySelectorAll("th").forEach((th, i) => th.onclick = () => {{
  const body = document.querySelector("tbody"), down = th.dataset.down = th.dataset.down ? "" : "1";
  const key = row => row.cells[i].textContent, number = text => parseFloat(text);
  [...body.rows].sort((a, b) => {{
    const [x, y] = [key(a), key(b)], d = number(x) - number(y);
    return (isNaN(d) ? x.localeCompare(y) : d) * (down ? 1 : -1);
  }}).forEach(row => body.append(row));
}});
</script></body></html>
"""


def _png(comparison: Comparison) -> bytes:
    require("matplotlib", "plots", what="a plot", where="--plot")
    from matplotlib.figure import Figure

    name = comparison.objective
    rows = [
        row for row in comparison.rows if name and math.isfinite(row.metrics.get(name, math.nan))
    ]
    if name is None or not rows:
        raise UserError(
            "there is no objective to draw", where="--plot", fix="Give --objective <metric>."
        )
    options = [key for key in comparison.options if len({str(r.options[key]) for r in rows}) > 1]
    options = sorted(options, key=lambda key: -_explained(rows, key, name))[:_MOST_OPTIONS]
    figure = Figure(figsize=(13, 8.5), dpi=100, layout="constrained")
    grid = figure.add_gridspec(2, max(2, 2 * max(1, len(options))))
    for number, key in enumerate(options):
        width = grid.ncols // len(options)
        place = grid[0, number * width : (number + 1) * width]
        _draw_option(figure.add_subplot(place), rows, key, name, first=number == 0)
    colored = options[0] if options else None
    half = grid.ncols // 2 if len(options) > 1 else grid.ncols
    _draw_curves(figure.add_subplot(grid[1, :half]), rows, name, colored)
    if len(options) > 1:
        _draw_parallel(
            figure.add_subplot(grid[1, half:]), rows, options, name, comparison.direction
        )
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


def _explained(rows: list[Row], key: str, name: str) -> float:
    """Return the variance of an objective's means over an option's values."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        groups.setdefault(str(row.options[key]), []).append(row.metrics[name])
    means = [np.mean(group) for group in groups.values() for _ in group]
    return float(np.var(means))


def _draw_option(axes: Any, rows: list[Row], key: str, name: str, *, first: bool) -> None:
    values = [row.options[key] for row in rows]
    places, labels, log = _scaled(values)
    axes.scatter(
        places, [row.metrics[name] for row in rows], s=55, alpha=0.8,
        c=["tab:green" if row.best else "tab:blue" for row in rows], edgecolors="white",
    )  # fmt: skip
    for row, place in zip(rows, places, strict=True):
        if name in row.spread:
            axes.errorbar(place, row.metrics[name], row.spread[name], color="tab:gray", zorder=0)
    if log:
        axes.set_xscale("log")
    if labels:
        axes.set_xticks(range(len(labels)), labels, rotation=20 * (max(map(len, labels)) > 8))
        axes.set_xmargin(0.15)
    elif len(set(places)) <= 6 and not log:
        axes.set_xticks(sorted(set(places)), [f"{place:g}" for place in sorted(set(places))])
    axes.set_xlabel(key)
    if first:
        axes.set_ylabel(name)
        axes.scatter([], [], s=55, c="tab:green", label="best")
        axes.legend(fontsize=9)
    axes.grid(alpha=0.3)


def _draw_curves(axes: Any, rows: list[Row], name: str, colored: str | None) -> None:
    import matplotlib

    values = [row.options[colored] if colored else 0 for row in rows]
    places, _, log = _scaled(values)
    shade = np.log10(places) if log else np.asarray(places, float)
    span = float(np.ptp(shade)) or 1.0
    shown = set()
    for row, each in zip(rows, (shade - shade.min()) / span * 0.9, strict=True):
        color = matplotlib.colormaps[_SHADES](each)
        for run in row.runs:
            steps, curve = _curve(run, name)
            if not steps:
                continue
            label = f"{colored} = {row.options[colored]}" if colored else run.name
            axes.plot(
                steps, curve, color=color, alpha=0.9, lw=2.4 if row.best else 1.4,
                marker="o" if len(steps) < 12 else None, ms=4,
                label=None if label in shown else label,
            )  # fmt: skip
            shown.add(label)
    axes.set_xlabel("step")
    axes.set_ylabel(name)
    axes.grid(alpha=0.3)
    if 0 < len(shown) <= 10:
        axes.legend(fontsize=9)


def _draw_parallel(
    axes: Any, rows: list[Row], options: list[str], name: str, direction: str | None
) -> None:
    import matplotlib

    metric = np.array([row.metrics[name] for row in rows])
    good = (metric.max() - metric) if direction == "min" else (metric - metric.min())
    good = good / (float(np.ptp(metric)) or 1.0)
    columns = [_unit([row.options[key] for row in rows]) for key in options]
    heights = np.array([*(column for column, _ in columns), _unit(list(metric))[0]])
    for number in np.argsort(good):
        color = matplotlib.colormaps[_SHADES](0.9 * good[number])
        best = rows[int(number)].best
        axes.plot(heights[:, number], color=color, lw=3 if best else 1.3, alpha=0.85)
    for place, (_, ticks) in enumerate([*columns, _unit(list(metric))]):
        axes.axvline(place, color="0.75", lw=1, zorder=0)
        for height, text in ticks:
            axes.annotate(
                text, (place, height), fontsize=8, xytext=(3, 2), textcoords="offset points"
            )
    axes.set_xticks(range(len(options) + 1), [*(o.rpartition(".")[2] for o in options), name])
    axes.set_yticks([])
    axes.margins(x=0.1)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)


def _scaled(values: list[Any]) -> tuple[list[float], list[str], bool]:
    """Return places on an axis, labels if the values are not numbers, and whether to use a log."""
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        numbers = [float(value) for value in values]
        log = min(numbers) > 0 and max(numbers) / min(numbers) >= 10
        return numbers, [], log
    labels = sorted({str(value) for value in values})
    return [float(labels.index(str(value))) for value in values], labels, False


def _unit(values: list[Any]) -> tuple[np.ndarray[Any, Any], list[tuple[float, str]]]:
    """Return heights from 0 to 1, and the ticks of the axis: height and text."""
    places, _, log = _scaled(values)
    scaled = np.log10(places) if log else np.asarray(places, float)
    low, span = scaled.min(), float(np.ptp(scaled)) or 1.0
    heights = (scaled - low) / span
    known = dict(zip(heights.tolist(), values, strict=True))
    texts = [(h, f"{v:.3g}" if isinstance(v, float) else str(v)) for h, v in sorted(known.items())]
    return heights, texts if len(texts) <= 6 else [texts[0], texts[-1]]


def _curve(run: RunRecord, name: str) -> tuple[list[int], list[float]]:
    """Return the steps and values of a metric; the epoch's means for a training metric."""
    try:
        with open(run.path / METRICS, newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, csv.Error, UnicodeDecodeError):
        return [], []
    steps, values = [], []
    for row in rows:
        text = row.get(f"{name}_epoch") or (row.get(name) if not name.startswith("train/") else "")
        try:
            values.append(float(text or ""))
            steps.append(int(row["step"]))
        except (ValueError, KeyError, TypeError):
            continue
    return steps[: len(values)], values
