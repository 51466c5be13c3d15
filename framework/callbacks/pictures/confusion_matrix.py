"""Which classes a model takes for which others."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.callbacks.pictures.judged import Judged, JudgedPicture
from framework.callbacks.pictures.style import INK, PAPER, figure, heading, short

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
    from 121 classes on, only the classes of these are named on the axes. The counts of all cells
    are in the CSV file beside the PNG.

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
    cell = 0.5 if few else max(0.132, 9 / classes)
    labels = [short(name, 22) for name in names]
    margin = 0.5 + 0.075 * max(map(len, labels)) * (1 if few else 0.8)
    side = max(min(cell * classes, 14), 2.2)
    beside = 0.0 if few else 3.2
    with figure(max(side + margin + 0.9 + beside, 5.4), side + margin + 0.4) as made:
        made.suptitle(title, x=0.01, ha="left", fontsize=10, fontweight="bold")
        if few:
            axes = made.subplots()
        else:
            axes, list_axes = made.subplots(1, 2, width_ratios=[side, beside])
            _list(list_axes, counts, names)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        scale = PowerNorm(1 if few else 0.6, 0, 1)  # so that rare mistakes among many are seen
        drawn = axes.imshow(shares, cmap="Blues", norm=scale, interpolation="nearest")
        _ticks(axes, labels, counts, few)
        if few:
            _numbers(axes, counts, shares)
        bar = made.colorbar(drawn, ax=axes, shrink=0.6, aspect=30, pad=0.015, format="{x:.0%}")
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=8, length=0)
        bar.set_label("share of the true class", fontsize=8)
    return made


def _ticks(axes: Any, labels: Sequence[str], counts: np.ndarray, few: bool) -> None:
    classes = len(labels)
    places = list(range(classes))
    if classes > _WITH_ALL_NAMES:
        pairs = confused_pairs(counts, _PAIRS)
        places = sorted({place for pair in pairs for place in pair[:2]})
    size = 9 if few else 7.5 if classes <= 60 else 6.5
    upright = few and max(map(len, labels)) <= 3
    named = [labels[place] for place in places]
    axes.set_xticks(places, named, rotation=0 if upright else 90, fontsize=size)
    axes.set_yticks(places, named, fontsize=size)
    axes.tick_params(length=0)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.spines[:].set_visible(False)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#eceef1", linewidth=1 if few else 0.4)
    axes.tick_params(which="minor", length=0)


def _numbers(axes: Any, counts: np.ndarray, shares: np.ndarray) -> None:
    size = 9 if counts.max() < 10_000 else 7.5
    for (row, column), count in np.ndenumerate(counts):
        if count:
            colour = PAPER if shares[row, column] > 0.55 else INK
            text = f"{count}" if count < 100_000 else f"{count / 1000:.0f}k"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=size)


def _list(axes: Any, counts: np.ndarray, names: Sequence[str]) -> None:
    """Write the most frequent mistakes, one on a line."""
    axes.axis("off")
    axes.set_title("Most frequent mistakes", fontsize=9)
    totals = counts.sum(axis=1)
    lines = [
        (
            f"{count:,}",
            f"{count / totals[true]:.0%}",
            f"{short(names[true], 18)} → {short(names[predicted], 18)}",
        )
        for true, predicted, count in confused_pairs(counts, _PAIRS)
    ]
    columns = zip(("count", "share", "true → predicted"), *lines, strict=True)
    for texts, place, side in zip(
        columns, (0.12, 0.26, 0.3), ("right", "right", "left"), strict=True
    ):
        look = {"ha": side, "va": "top", "fontsize": 8, "linespacing": 1.5}
        axes.text(place, 0.995, "\n".join(texts), transform=axes.transAxes, **look)
