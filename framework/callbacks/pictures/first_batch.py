"""The first training batch, as the network sees it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.callbacks.pictures.image_grid import Caption, PixelRange, grid, images_of
from framework.callbacks.pictures.picture import Picture, at_least_one
from framework.callbacks.pictures.recognition import Entry, entry
from framework.callbacks.pictures.style import INK, short
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.callback import RunView

_log = logging.getLogger("framework")


class FirstBatch(Picture):
    """Draw the images of the first training batch, after `Data.map` and `Data.augment`.

    Look at it once before a long run: wrong colours, labels or augmentation are seen at a glance.
    It is drawn when a new run starts, as `train/first_batch`. The title has the shape and the range
    of the pixels as the network gets them; `PixelRange` says how they are shown.

    A stream that is shuffled or read by Python code with a state is not drawn: reading its first
    batch twice would change what the run trains on.

    Example:
        >>> Trainer(run_dir="runs/a", callbacks=[FirstBatch(count=16)])

    Args:
        count: How many images to draw, at most.
        images: Where a batch has the images: the key of an entry, or a function of the batch.
            Default: the first array with the shape of images.
        labels: Where it has the labels, if it is not `(x, y)`.
    """

    name = "first_batch"

    def __init__(self, count: int = 32, images: Entry = None, labels: Entry = None) -> None:
        super().__init__()
        self.count = at_least_one(count, "callbacks.first_batch.count")
        self.images, self.labels = images, labels

    def on_fit_start(self, run: RunView) -> None:
        """Draw it, if the run is new."""
        if run.progress.step:
            return
        batch = run.first_batch()
        if batch is None:
            _log.warning(
                "no first_batch: reading the first batch of this stream twice would change the "
                "run. Give a set that is not shuffled, or arrays."
            )
            return
        if not run.is_chief:
            return
        try:
            images = images_of(batch, self.images)
        except UserError as problem:
            self.say(problem)
            return
        self.show(run, "train", self._figure(images, self._captions(run, batch)))

    def _figure(self, images: np.ndarray, captions: list[Caption]) -> Any:
        seen = PixelRange()
        seen.add(images)
        low, high = seen.bounds
        count = min(self.count, len(images))
        size = "x".join(map(str, images.shape[1:]))
        title = f"First batch · {count} of {len(images)} · {size}, {images.dtype} "
        title += f"{low:.3g} to {high:.3g}"
        shown = [seen.shown(image) for image in images[:count]]
        return grid(title, shown, captions[:count] or [()] * count, columns=8)

    def _captions(self, run: RunView, batch: Any) -> list[Caption]:
        """Return the classes of the images, or nothing if there are no labels."""
        found = entry(batch, self.labels, "labels") if self.labels is not None else batch
        if self.labels is None:
            if not (isinstance(batch, (list, tuple)) and len(batch) >= 2):
                return []
            found = batch[1]
        if isinstance(found, (dict, list, tuple)):
            return []
        labels: Any = np.asarray(found)
        if labels.ndim == 2 and labels.shape[1] > 1:
            labels = labels.argmax(axis=1)  # one-hot, or mixed: the class with most of it
        if labels.ndim == 0 or labels.size != len(labels) or labels.dtype.kind not in "biuf":
            return []
        names, values = run.class_names, labels.reshape(-1)
        known = all(value == int(value) and 0 <= value < len(names) for value in values)
        texts = [names[int(value)] if known else f"{value:g}" for value in values]
        return [((short(text, 18), INK),) for text in texts]
