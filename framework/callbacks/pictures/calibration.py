"""Whether a model is right as often as it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from framework.callbacks.pictures.judged import Judged, JudgedPicture
from framework.callbacks.pictures.picture import at_least_one
from framework.callbacks.pictures.recognition import Entry
from framework.callbacks.pictures.style import (
    ACCENT,
    FAINT,
    INK,
    WRONG,
    blank,
    heading,
    look,
    write_title,
)

if TYPE_CHECKING:
    from framework.callback import RunView


class Reliability(NamedTuple):
    """Rows grouped by their confidence, in bins of equal width from 0 to 1.

    Attributes:
        counts: Rows in each bin.
        accuracy: The share of right rows in each bin; NaN without rows.
        confidence: The mean confidence in each bin; NaN without rows.
    """

    counts: np.ndarray
    accuracy: np.ndarray
    confidence: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap, weighted by rows."""
        gaps = np.nan_to_num(np.abs(self.accuracy - self.confidence))
        return float((gaps * self.counts).sum() / self.counts.sum())


def reliability(right: np.ndarray, confidence: np.ndarray, bins: int = 15) -> Reliability:
    """Group rows by confidence; a bin includes its upper limit.

    Example:
        >>> reliability(np.array([True, False]), np.array([0.9, 0.9]), bins=2).error
        0.4

    Args:
        right: Whether each row's prediction is right.
        confidence: The probability of that prediction.
        bins: The number of bins.
    """
    bin_of = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(bin_of, minlength=bins)
    with np.errstate(invalid="ignore"):
        accuracy = np.bincount(bin_of, right.astype(float), bins) / counts
        mean = np.bincount(bin_of, confidence.astype(float), bins) / counts
    return Reliability(counts, accuracy, mean)


class Calibration(JudgedPicture):
    """Draw how often predictions are right, by how confident they are.

    In a calibrated model, 80% of the predictions with a confidence of 0.8 are right: the bars reach
    the diagonal. The title has the expected calibration error (ECE), the mean gap over all rows.
    Below is the share of the rows with each confidence.

    Example:
        >>> Trainer(run_dir="runs/a", callbacks=[Calibration(bins=10)])

    Args:
        bins: The number of bins of confidence, from 0 to 1.
        every: See `JudgedPicture`.
        labels: See `JudgedPicture`.
        probabilities: See `JudgedPicture`.
    """

    name = "calibration"

    def __init__(
        self,
        bins: int = 15,
        every: str | None = None,
        labels: Entry = None,
        probabilities: Entry = None,
    ) -> None:
        super().__init__(every, labels, probabilities)
        self.bins = at_least_one(bins, "callbacks.calibration.bins")

    def draw(self, run: RunView, stage: str, judged: Judged) -> None:
        """Draw one set."""
        confidence = judged.probabilities.max(axis=1)
        found = reliability(judged.predicted == judged.labels, confidence, self.bins)
        title = heading(stage, "Calibration", run.progress.step)
        about = f"ECE {found.error:.1%} · right {judged.accuracy:.1%} · "
        about += f"mean confidence {confidence.mean():.1%}"
        self.show(run, stage, _figure(title, about, found))


def _figure(title: str, about: str, found: Reliability) -> Any:
    bins = len(found.counts)
    width = 1 / bins
    left = np.arange(bins) * width
    some = found.counts > 0
    gap = np.where(some, found.confidence - found.accuracy, 0)
    with look():
        made = blank(5.2, 5.6)
        write_title(made, title)
        top, low = made.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.set_title(about, fontsize=9, fontweight="normal")
        bar = {"width": width, "align": "edge", "linewidth": 0.8, "edgecolor": "white"}
        top.bar(left[some], found.accuracy[some], color=ACCENT, label="right", **bar)
        top.bar(
            left[some], gap[some], bottom=found.accuracy[some], label="gap to the confidence",
            width=width, align="edge", facecolor=(1, 1, 1, 0.3), edgecolor=WRONG, hatch="////",
            linewidth=0.8,
        )  # fmt: skip
        top.plot([0, 1], [0, 1], color=INK, linewidth=1, linestyle=(0, (4, 3)), label="calibrated")
        top.set(ylim=(0, 1), ylabel="right, of the predictions")
        top.legend(loc="upper left")
        low.bar(left, found.counts / found.counts.sum(), color=FAINT, **bar)
        low.set(xlim=(0, 1), xlabel="confidence", ylabel="share of rows")
        low.yaxis.set_major_formatter("{x:.0%}")
        for axes in (top, low):
            axes.grid(axis="y")
            axes.tick_params(length=0)
    return made
