"""An optimizer, and the weights that it owns."""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class NamedOptimizer:
    """An optimizer and the weights that it may update.

    Attributes:
        name: Its name in `minimize` and `apply_gradients`.
        optimizer: The Keras optimizer, built on `owned`.
        owned: Its weights, including frozen ones.
    """

    name: str
    optimizer: keras.Optimizer
    owned: tuple[keras.Variable, ...]
