"""The mistakes that a model makes with most confidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.callbacks.pictures.image_grid import PixelRange, grid, images_of
from framework.callbacks.pictures.judged import Judged, JudgedPicture
from framework.callbacks.pictures.picture import at_least_one
from framework.callbacks.pictures.recognition import Entry
from framework.callbacks.pictures.style import FAINT, RIGHT, WRONG, heading, short
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.callback import RunView


@dataclass
class _Kept:
    """The worst rows of a set so far: (confidence, -row, label, predicted, image)."""

    rows: int = 0
    worst: list[tuple[float, int, int, int, np.ndarray]] = field(default_factory=list)
    pixels: PixelRange = field(default_factory=PixelRange)


class WorstMistakes(JudgedPicture):
    """Draw the images that are misjudged with the highest confidence.

    They show wrong labels, and what the model looks at. Below each image stand its true class, the
    predicted one, and how probable the model says that is. Of the inputs only these are kept.
    `PixelRange` says how pixels of any range are shown.

    Example:
        >>> Trainer(run_dir="runs/a", callbacks=[WorstMistakes(count=24)])

    Args:
        count: How many to draw, at most.
        images: Where a batch has the images: the key of an entry, or a function of the batch.
            Default: the first array with the shape of images.
        every: See `JudgedPicture`.
        labels: See `JudgedPicture`.
        probabilities: See `JudgedPicture`.
    """

    name = "worst_mistakes"

    def __init__(
        self,
        count: int = 18,
        images: Entry = None,
        every: str | None = None,
        labels: Entry = None,
        probabilities: Entry = None,
    ) -> None:
        super().__init__(every, labels, probabilities)
        self.count = at_least_one(count, "callbacks.worst_mistakes.count")
        self.images = images
        self._kept: dict[str, _Kept] = {}
        self._problem: UserError | None = None

    def begin_pass(self) -> None:
        """Forget the mistakes of the last pass."""
        self._kept, self._problem = {}, None

    def notice(self, stage: str, batch: Any, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Keep the worst mistakes of a batch, if they are among the worst of all."""
        if self._problem is not None:
            return
        try:
            images = images_of(batch, self.images)
        except UserError as problem:
            self._problem = problem
            return
        kept = self._kept.setdefault(stage, _Kept())
        kept.pixels.add(images)
        predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
        wrong = np.flatnonzero(predicted != labels)
        for row in wrong[np.argsort(-confidence[wrong], kind="stable")][: self.count]:
            about = int(labels[row]), int(predicted[row]), images[row].copy()
            kept.worst.append((float(confidence[row]), -(kept.rows + int(row)), *about))
        kept.worst = sorted(kept.worst, key=lambda each: each[:2], reverse=True)[: self.count]
        kept.rows += len(labels)

    def draw(self, run: RunView, stage: str, judged: Judged) -> None:
        """Draw the mistakes of one set."""
        if self._problem is not None:
            self.say(self._problem)
            return
        kept = self._kept.pop(stage, _Kept())
        if not kept.worst:
            return  # nothing is wrong
        names = [short(name, 20) for name in judged.names]
        captions = [
            (
                (f"true: {names[label]}", RIGHT),
                (f"said: {names[predicted]}", WRONG),
                (f"{confidence:.1%} sure", FAINT),
            )
            for confidence, _, label, predicted, _ in kept.worst
        ]
        mistakes = int((judged.predicted != judged.labels).sum())
        what = f"Worst of {mistakes:,} mistakes in {len(judged.labels):,}"
        images = [kept.pixels.shown(each[-1]) for each in kept.worst]
        title = heading(stage, what, run.progress.step)
        self.show(run, stage, grid(title, images, captions, columns=6))
