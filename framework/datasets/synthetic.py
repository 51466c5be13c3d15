"""Generates a stand-in for an unavailable image set: same shapes, learnable but not trivial."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

CELL = 8  # pixels between two points of a pattern's coarse grid
SHIFT = 4  # maximum shift of a pattern in pixels
PATTERNS = 6  # patterns per class
NOISE = 32  # amplitude of the noise, of 255
WRONG = 0.1  # fraction of labels that are replaced by random ones

_CHUNK = 500  # rows generated at once, which fit into a processor's cache
_DRAWS = 8  # random numbers per row, besides its noise
_PATTERN_STREAM, _ROW_STREAM, _NOISE_STREAM, _ORDER_STREAM = range(4)


def synthetic_images(
    name: str, *, shape: tuple[int, ...], rows: tuple[int, int], classes: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Generate images that a small network learns steadily, but not perfectly.

    Every class has a few smooth patterns. An image is one of them with a random shift and
    contrast, plus a weaker pattern of any class and noise. A tenth of the labels are random, so
    no accuracy comes near 1. Row i depends only on (seed, name, i), and is computed in integers
    from a counter-based generator, so it is bit-identical on every machine. The test set has the
    rows after those of the training set.

    Example:
        >>> x, y, *_ = synthetic_images("mnist", shape=(28, 28), rows=(100, 20), classes=10)
        >>> x.shape, x.dtype, y.shape
        ((100, 28, 28), dtype('uint8'), (100,))

    Args:
        name: Name of the replaced set; different names give different sets.
        shape: Shape of one image: (height, width) or (height, width, channels), in pixels.
        rows: Number of rows of the training and the test set.
        classes: Number of classes, at most 256, all equally frequent before labels are replaced.
        seed: Any whole number.

    Returns:
        x_train, y_train, x_test, y_test, all uint8: (rows, *shape) and (rows,).
    """
    family = zlib.crc32(name.encode())
    patterns = _patterns(shape, classes, (seed, family))
    labels = _labels(rows, classes, (seed, family))
    sets: list[np.ndarray] = []
    first = 0
    for count, true in zip(rows, labels, strict=True):
        x, y = np.empty((count, *shape), np.uint8), np.empty(count, np.uint8)
        for start in range(0, count, _CHUNK):
            part = slice(start, min(start + _CHUNK, count))
            _fill(x[part], y[part], true[part], patterns, classes, first + start, (seed, family))
        sets += [x, y]
        first += count
    return sets[0], sets[1], sets[2], sets[3]


def _raw(key: tuple[int, int], stream: int, first: int, rows: int, numbers: int) -> np.ndarray:
    """Draw `numbers` (a multiple of 4) uint64 for each of `rows` rows, from row `first` on."""
    words = np.array([key[0] & (2**64 - 1), key[1] << 8 | stream], np.uint64)
    # One step of Philox's counter gives four numbers, so a row's position in the stream is known.
    generator = np.random.Philox(key=words, counter=first * (numbers // 4))
    return generator.random_raw(rows * numbers).reshape(rows, numbers)


def _bytes(raw: np.ndarray) -> np.ndarray:
    return raw.astype("<u8", copy=False).view(np.uint8)


def _patterns(shape: tuple[int, ...], classes: int, key: tuple[int, int]) -> np.ndarray:
    """Return smooth patterns of every class, int16 in -128..127, larger than an image by shifts."""
    height, width = shape[0] + 2 * SHIFT, shape[1] + 2 * SHIFT
    channels = shape[2] if len(shape) > 2 else 1
    points = (height // CELL + 2) * (width // CELL + 2) * channels
    count = classes * PATTERNS
    raw = _bytes(_raw(key, _PATTERN_STREAM, 0, count, -(-points // 32) * 4))[:, :points]
    grid = raw.reshape(count, height // CELL + 2, width // CELL + 2, channels).astype(np.int32)
    for axis, size in ((1, height), (2, width)):
        place = np.arange(size)
        lines = [-1 if a == axis else 1 for a in range(4)]
        weight = (place % CELL).reshape(lines)
        low, high = place // CELL, place // CELL + 1
        grid = grid.take(low, axis) * (CELL - weight) + grid.take(high, axis) * weight
    smooth = grid // CELL**2 - 128
    return smooth.astype(np.int16).reshape(classes, PATTERNS, height, width, channels)


def _labels(rows: tuple[int, int], classes: int, key: tuple[int, int]) -> list[np.ndarray]:
    """Return the true classes of both sets: each class equally often, in a random order."""
    found = []
    for count, first in zip(rows, (0, rows[0]), strict=True):
        order = np.argsort(_raw(key, _ORDER_STREAM, first, count, 4)[:, 0], kind="stable")
        labels = np.empty(count, np.int64)
        labels[order] = np.arange(count) % classes
        found.append(labels)
    return found


def _fill(
    x: np.ndarray,
    y: np.ndarray,
    true: np.ndarray,
    patterns: np.ndarray,
    classes: int,
    first: int,
    key: tuple[int, int],
) -> None:
    """Write one chunk of images and labels into `x` and `y`."""
    rows, height, width = x.shape[:3]
    draws = _raw(key, _ROW_STREAM, first, rows, _DRAWS)

    def below(column: int, limit: int, high: bool = False) -> np.ndarray:
        half = (
            draws[:, column] >> np.uint64(32) if high else draws[:, column] & np.uint64(2**32 - 1)
        )
        return (half * np.uint64(limit) >> np.uint64(32)).astype(np.int64)

    windows: Any = np.lib.stride_tricks.sliding_window_view(patterns, (height, width), axis=(2, 3))

    def pattern(of: np.ndarray, column: int) -> np.ndarray:
        which, down = below(column, PATTERNS), below(column + 1, 2 * SHIFT + 1)
        right = below(column + 1, 2 * SHIFT + 1, high=True)
        # (rows, channels, height, width): channels stay first, as the windows have them.
        return windows[of, which, down, right]  # type: ignore[no-any-return]

    def strength(column: int, low: int, high: int) -> np.ndarray:
        span = low + below(column, high - low)
        return span.astype(np.int16).reshape(-1, 1, 1, 1)

    # Weights are in 1/128; the sum of two products stays within 16 bits.
    image = pattern(true, 0) * strength(2, 40, 112)
    # One channel has less information than three, so the second pattern is weaker.
    image += pattern(below(3, classes), 4) * strength(6, 0, 112 if image.shape[1] > 1 else 48)
    image >>= 7
    pixels = height * width * image.shape[1]
    noise = _bytes(_raw(key, _NOISE_STREAM, first, rows, -(-pixels // 32) * 4))[:, :pixels]
    image += (noise & (2 * NOISE - 1)).reshape(image.shape)
    image += 128 - NOISE
    np.clip(image, 0, 255, out=image)
    moved = np.moveaxis(image, 1, -1)
    x[...] = moved.reshape(x.shape) if x.ndim == 3 else moved
    wrong = below(7, 2**16) < int(WRONG * 2**16)
    y[...] = np.where(wrong, below(7, classes, high=True), true)
