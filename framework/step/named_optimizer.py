"""An optimizer, and the weights that it owns."""

from __future__ import annotations

from dataclasses import dataclass

import keras


@dataclass(frozen=True)
class NamedOptimizer:
    """An optimizer and the weights that it may update.

    Attributes:
        name: What `minimize` and `apply_gradients` call it.
        optimizer: The Keras optimizer, built on `owned`.
        owned: Its weights, whether they are frozen at the moment or not.
    """

    name: str
    optimizer: keras.Optimizer
    owned: tuple[keras.Variable, ...]
