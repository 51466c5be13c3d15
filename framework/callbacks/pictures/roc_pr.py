"""How well a model tells each class from the rest, at every threshold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from framework.callbacks.pictures.judged import Judged, JudgedPicture
from framework.callbacks.pictures.style import (
    COLOURS,
    FAINT,
    blank,
    heading,
    look,
    short,
    write_title,
)

if TYPE_CHECKING:
    from framework.callback import RunView


_NAME = 24  # characters


class Curves(NamedTuple):
    """The curves of one class against the rest, from the highest threshold to the lowest.

    Attributes:
        false_positives: The share of the rest that is above each threshold.
        true_positives: The share of the class that is above each threshold; the recall.
        precision: The share of the class among all rows above each threshold.
    """

    false_positives: np.ndarray
    true_positives: np.ndarray
    precision: np.ndarray

    @property
    def area(self) -> float:
        """The area below the ROC curve: the chance that a row of the class scores higher."""
        x, y = self.false_positives, self.true_positives
        return float((np.diff(x) * (y[1:] + y[:-1]) / 2).sum())

    @property
    def average_precision(self) -> float:
        """The mean of the precision over all steps of the recall."""
        return float((np.diff(self.true_positives) * self.precision[1:]).sum())


def curves_of(positive: np.ndarray, scores: np.ndarray) -> Curves | None:
    """Return the curves of one class.

    Example:
        >>> curves_of(np.array([True, False]), np.array([0.9, 0.2])).area
        1.0

    Args:
        positive: Which rows are of the class.
        scores: How probable the model says that is.

    Returns:
        The curves; None if all rows are of the class, or none.
    """
    yes, no = int(positive.sum()), int((~positive).sum())
    if not yes or not no:
        return None
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # of equal scores
    hits = np.cumsum(positive[order])[last]
    above = last + 1
    true = np.append(0, hits) / yes
    precision = np.append(1.0, hits / above)
    return Curves(np.append(0, above - hits) / no, true, precision)


class RocPr(JudgedPicture):
    """Draw the ROC and the precision-recall curve of each class against the rest.

    The legend has the area below each ROC curve (AUC) and the average precision (AP). Of more than
    12 classes, those with the smallest area are drawn. With two classes there is one curve, of the
    second class.

    Example:
        >>> Trainer(run_dir="runs/a", callbacks=[RocPr()])

    Args:
        every: See `JudgedPicture`.
        labels: See `JudgedPicture`.
        probabilities: See `JudgedPicture`.
    """

    name = "roc_pr"

    def draw(self, run: RunView, stage: str, judged: Judged) -> None:
        """Draw the curves of one set."""
        classes = len(judged.names)
        wanted = [1] if classes == 2 else range(classes)
        found = []
        for number in wanted:
            curves = curves_of(judged.labels == number, judged.probabilities[:, number])
            if curves is not None:
                found.append((judged.names[number], curves))
        if not found:
            return  # the set has one class only
        what = "ROC and precision-recall"
        if len(found) > len(COLOURS):
            found = sorted(found, key=lambda each: each[1].area)[: len(COLOURS)]
            what += f" · the {len(found)} weakest of {classes} classes"
        self.show(run, stage, _figure(heading(stage, what, run.progress.step), found))


def _figure(title: str, found: list[tuple[str, Curves]]) -> Any:
    longest = max(len(short(name, _NAME)) for name, _ in found)
    with look():
        made = blank(8.6 + 0.06 * longest, 3.9)
        write_title(made, title)
        roc, pr = made.subplots(1, 2)
        roc.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle=(0, (4, 3)))
        for (name, curves), colour in zip(found, COLOURS, strict=False):
            line = {"color": colour, "linewidth": 1.6, "clip_on": False}
            label = (
                f"{short(name, _NAME)}  AUC {curves.area:.3f}  AP {curves.average_precision:.3f}"
            )
            roc.plot(curves.false_positives, curves.true_positives, label=label, **line)
            pr.step(curves.true_positives, curves.precision, where="pre", **line)
        for axes, across, up in (
            (roc, "false positives, of the rest", "true positives, of the class"),
            (pr, "recall, of the class", "precision"),
        ):
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=across, ylabel=up, aspect="equal")
            axes.grid()
            axes.tick_params(length=0)
        made.legend(loc="outside right center", handlelength=1.2)
    return made
