"""Draws images in a grid, in their right colours, with captions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from framework.callbacks.pictures.recognition import Entry, described, entry
from framework.callbacks.pictures.style import blank, look, width_of, write_title
from framework.errors import UserError

Caption = Sequence[tuple[str, str]]
"""The lines below an image: texts and their colours."""

_CHANNELS = (1, 3, 4)
_SMALLEST = 4  # pixels; less is a vector
_SIDE, _GAP, _LINE = 1.25, 0.12, 0.15  # inches


def images_of(batch: Any, where: Entry = None) -> np.ndarray:
    """Return the images of a batch: [rows, height, width, channels].

    Without `where`, they are the first array of the batch with the shape of images; channels may
    come first or last, or be left out.

    Args:
        batch: The batch.
        where: The key of the entry that has them, or a function of the batch.

    Raises:
        UserError: There are none.
    """
    given = entry(batch, where, "images")
    for leaf in _leaves(given):
        array = np.asarray(leaf)
        array = array.astype(np.float32) if array.dtype.kind == "V" else array  # bfloat16
        if array.ndim == 3 and min(array.shape[1:]) >= _SMALLEST:
            return array[..., np.newaxis]
        if array.ndim == 4 and array.shape[-1] in _CHANNELS:
            return array
        if array.ndim == 4 and array.shape[1] in _CHANNELS:
            return np.moveaxis(array, 1, -1)
    raise UserError(
        f"there are no images in {described(given)}",
        where="images",
        fix="Give images=, the key of an entry or a function that returns them.",
    )


def _leaves(nest: Any) -> list[Any]:
    if isinstance(nest, dict):
        return [leaf for each in nest.values() for leaf in _leaves(each)]
    if isinstance(nest, (list, tuple)):
        return [leaf for each in nest for leaf in _leaves(each)]
    return [nest]


class PixelRange:
    """The range of the pixels of a set, from which follows how to show them.

    Pixels are taken as whole numbers or floats in 0..255, as floats in 0..1, or as floats in -1..1,
    whichever is the first that holds them all. Any other range, as of standardized images, is
    stretched to black and white for each channel, which restores the colours up to the contrast of
    the set.

    Example:
        >>> seen = PixelRange()
        >>> seen.add(np.array([[-1.0, 0.0, 1.0]]).reshape(1, 1, 3, 1))
        >>> seen.shown(np.zeros((1, 1, 1))).item()
        0.5
    """

    def __init__(self) -> None:
        self._low = self._high = np.zeros(0)
        self._whole = False

    def add(self, images: np.ndarray) -> None:
        """Widen the range to include images, [rows, height, width, channels]."""
        low = images.min(axis=(0, 1, 2)).astype(np.float64)
        high = images.max(axis=(0, 1, 2)).astype(np.float64)
        self._whole = images.dtype.kind in "biu"
        first = not self._low.size
        self._low = low if first else np.minimum(self._low, low)
        self._high = high if first else np.maximum(self._high, high)

    @property
    def bounds(self) -> tuple[float, float]:
        """The lowest and the highest pixel."""
        return float(self._low.min()), float(self._high.max())

    def shown(self, image: np.ndarray) -> np.ndarray:
        """Return an image as floats in 0..1."""
        low, high = self.bounds
        black: Any = 0.0
        white: Any = 1.0
        if low >= 0 and high <= 255 and (self._whole or high > 1):
            white = 1.0 if self._whole and high <= 1 else 255.0
        elif low >= -1 and high <= 1:
            black = 0.0 if low >= 0 else -1.0
        else:
            black, white = self._low, self._high
            white = np.where(white > black, white, black + 1)
        scaled = (image.astype(np.float64) - black) / (white - black)
        return np.asarray(np.clip(scaled, 0, 1), np.float32)


def grid(
    title: str, images: Sequence[np.ndarray], captions: Sequence[Caption], *, columns: int
) -> Any:
    """Return a figure of images, each with lines of text below it.

    Args:
        title: The title.
        images: Floats in 0..1: [height, width, channels] each.
        captions: The lines below each image.
        columns: Images in a row, at most.
    """
    columns = max(1, min(columns, len(images)))
    rows = math.ceil(len(images) / columns)
    lines = max((len(each) for each in captions), default=0)
    shape = float(np.median([image.shape[1] / image.shape[0] for image in images]))
    wide, high = _SIDE * min(max(shape, 1), 2), _SIDE * min(max(1 / shape, 1), 2)
    across, down, top = wide + _GAP, high + _GAP + _LINE * lines, 0.36
    with look():
        width = max(columns * across + _GAP, width_of(title, 10, bold=True) + 0.3)
        height = rows * down + top
        made = blank(width, height, layout=None)
        write_title(made, title)
        for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
            row, column = divmod(number, columns)
            left, above = _GAP + column * across, top + row * down
            place = (left / width, 1 - (above + high) / height, wide / width, high / height)
            axes = made.add_axes(place, anchor="S")
            _draw(axes, image)
            _write(axes, caption)
    return made


def _write(axes: Any, caption: Caption) -> None:
    for line, (text, colour) in enumerate(caption):
        axes.annotate(
            text,
            (0.5, 0),
            xycoords="axes fraction",
            xytext=(0, -3 - 72 * _LINE * line),
            textcoords="offset points",
            ha="center",
            va="top",
            fontsize=8 if len(text) <= 18 else 7,
            color=colour,
        )


def _draw(axes: Any, image: np.ndarray) -> None:
    axes.axis("off")
    near = "nearest" if max(image.shape[:2]) < 128 else "antialiased"
    if image.shape[-1] == 1:
        axes.imshow(image[..., 0], cmap="gray", vmin=0, vmax=1, interpolation=near)
    else:
        axes.imshow(image, interpolation=near)
