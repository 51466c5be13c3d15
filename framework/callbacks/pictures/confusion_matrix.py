"""Which classes a model takes for which others."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.callbacks.pictures.judged import Judged, JudgedPicture
from framework.callbacks.pictures.style import (
    INK,
    PAPER,
    blank,
    heading,
    look,
    short,
    width_of,
    write_title,
)

if TYPE_CHECKING:
    from framework.callback import RunView

_WITH_COUNTS, _WITH_ALL_NAMES, _PAIRS = 20, 120, 40


def confusion_counts(labels: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Return how many rows of each true class (rows) were taken for each class (columns).

    Example:
        >>> confusion_counts(np.array([0, 1, 1]), np.array([0, 0, 1]), 2).tolist()
        [[1, 0], [1, 1]]
    """
    flat = np.bincount(labels * classes + predicted, minlength=classes * classes)
    return flat.reshape(classes, classes)


def confused_pairs(counts: np.ndarray, most: int) -> list[tuple[int, int, int]]:
    """Return the most frequent mistakes: (true class, predicted class, count)."""
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:most]
    pairs = [(*divmod(int(place), len(counts)), int(wrong.flat[place])) for place in order]
    return [pair for pair in pairs if pair[2]]


class ConfusionMatrix(JudgedPicture):
    """Draw a confusion matrix: true classes down, predicted classes across.

    A cell is as dark as the share of its true class. Up to 20 classes it also has the count, unless
    that is 0. With more classes the picture grows, and beside it stand the most frequent mistakes;
    from 121 classes on, the axes have numbers instead of names. The counts of all cells are in the
    CSV file beside the PNG.

    Example:
        >>> Trainer(run_dir="runs/a", callbacks=[ConfusionMatrix(every="5ep")])

    Args:
        every: See `JudgedPicture`.
        labels: See `JudgedPicture`.
        probabilities: See `JudgedPicture`.
    """

    name = "confusion_matrix"

    def draw(self, run: RunView, stage: str, judged: Judged) -> None:
        """Draw one set, and write its counts."""
        classes = len(judged.names)
        counts = confusion_counts(judged.labels, judged.predicted, classes)
        what = f"Confusion matrix · {judged.accuracy:.1%} right of {len(judged.labels):,}"
        self.show(
            run, stage, _figure(heading(stage, what, run.progress.step), counts, judged.names)
        )
        table = self.write(run, stage, "csv", _table(counts, judged.names))
        if table is not None:
            run.log_artifact(table)


def _table(counts: np.ndarray, names: Sequence[str]) -> bytes:
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["true \\ predicted", *names])
    rows.writerows([name, *row] for name, row in zip(names, counts.tolist(), strict=True))
    return text.getvalue().encode()


def _figure(title: str, counts: np.ndarray, names: Sequence[str]) -> Any:
    from matplotlib.colors import PowerNorm

    classes = len(names)
    few = classes <= _WITH_COUNTS
    size = 9 if few else 7.5 if classes <= 60 else 6.5
    side = min(max(2.4, 0.5 * classes if few else max(9, 0.132 * classes)), 14)
    named = [short(name) for name in names]
    named = named if classes <= _WITH_ALL_NAMES else [str(number) for number in range(classes)]
    with look():
        longest = max(width_of(name, size) for name in named)
        upright = longest < 0.75 * side / classes
        left, below = longest + 0.55, (0.15 if upright else longest) + 0.55
        mistakes = [] if few else _mistakes(counts, names)
        beside = 1.1 + max((1.2 + width_of(each[-1], 8) for each in mistakes), default=0)
        width = max(left + side + beside, width_of(title, 10, bold=True) + 0.3)
        height = below + side + 0.45
        made = blank(width, height, layout=None)
        write_title(made, title)
        axes = made.add_axes((left / width, below / height, side / width, side / height))
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        scale = PowerNorm(1 if few else 0.6, 0, 1)  # so that rare mistakes among many are seen
        drawn = axes.imshow(shares, cmap="Blues", norm=scale, interpolation="nearest")
        _name_axes(axes, named, size, 0 if upright else 90)
        at = (left + side + 0.15) / width
        tall = min(side, 6)
        bar = made.add_axes((at, (below + side - tall) / height, 0.13 / width, tall / height))
        _scale(made.colorbar(drawn, cax=bar, format="{x:.0%}"))
        if few:
            _numbers(axes, counts, shares)
        else:
            _list(made, at + 0.9 / width, (below + side) / height, mistakes)
    return made


def _name_axes(axes: Any, names: Sequence[str], size: float, rotation: int) -> None:
    classes = len(names)
    every = 1 if classes <= _WITH_ALL_NAMES else 10 * math.ceil(classes / 600)
    places = range(0, classes, every)
    named = [names[place] for place in places]
    axes.set_xticks(places, named, rotation=rotation, fontsize=size)
    axes.set_yticks(places, named, fontsize=size)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    if classes <= _WITH_ALL_NAMES:
        edges = np.arange(classes + 1) - 0.5
        line = {"color": "#eceef1", "linewidth": 1 if classes <= _WITH_COUNTS else 0.4}
        axes.hlines(edges, -0.5, classes - 0.5, **line)
        axes.vlines(edges, -0.5, classes - 0.5, **line)


def _scale(bar: Any) -> None:
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    bar.set_label("share of the true class", fontsize=8)


def _numbers(axes: Any, counts: np.ndarray, shares: np.ndarray) -> None:
    size = 9 if counts.max() < 10_000 else 7.5
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = PAPER if shares[row, column] > 0.55 else INK
            text = f"{count}" if count < 100_000 else f"{count / 1000:.0f}k"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _mistakes(counts: np.ndarray, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Return the lines of the list of the most frequent mistakes, headed."""
    numbered = len(names) > _WITH_ALL_NAMES

    def name(number: int) -> str:
        return short(names[number], 20) + (f" ({number})" if numbered else "")

    totals = counts.sum(axis=1)
    lines = [
        (f"{count:,}", f"{count / totals[true]:.0%}", f"{name(true)} → {name(predicted)}")
        for true, predicted, count in confused_pairs(counts, _PAIRS)
    ]
    return [("count", "share", "true → predicted"), *lines]


def _list(made: Any, left: float, top: float, lines: Sequence[tuple[str, str, str]]) -> None:
    """Write the most frequent mistakes, one on a line, from a place in the figure on."""
    inch = 1 / made.get_figwidth()
    made.text(left, top, "Most frequent mistakes", va="top", fontsize=9, fontweight="bold")
    line = 0.24 / made.get_figheight()
    places = ((0.4, "right"), (0.85, "right"), (1.0, "left"))
    for texts, (across, side) in zip(zip(*lines, strict=True), places, strict=True):
        about = {"ha": side, "va": "top", "fontsize": 8, "linespacing": 1.5}
        made.text(left + across * inch, top - line, "\n".join(texts), **about)
