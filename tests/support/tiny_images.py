"""Tiny sets of images, as files hold them."""

from __future__ import annotations

from typing import Any

import numpy as np


def image_set(shape: tuple[int, ...], classes: int, train: int = 70, test: int = 20) -> Any:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (train, *shape), np.uint8),
        "y_train": rng.integers(0, classes, train).astype(np.uint8),
        "x_test": rng.integers(0, 256, (test, *shape), np.uint8),
        "y_test": rng.integers(0, classes, test).astype(np.uint8),
    }
