"""`schedule=`: the learning-rate schedules of Keras, and a warm-up followed by a cosine.

If the rate is null here, it is the optimizer's: `optimizer.learning_rate`.
"""

# ruff: noqa: UP007, UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

MISSING: Any = "???"
"""OmegaConf's marker for a required value. Defined here to keep OmegaConf out of `--help`."""


@dataclass
class WarmupCosineConfig:
    """Rise linearly from 0, then fall along half a cosine."""

    _target_: str = "framework.schedules.WarmupCosine"
    peak: Optional[float] = None
    warmup: Union[int, float] = 0.05
    end: float = 0.0
    by: str = "step"
    total: Optional[int] = None


@dataclass
class ExponentialDecayConfig:
    """Multiply by the same factor every so many steps."""

    _target_: str = "keras.optimizers.schedules.ExponentialDecay"
    initial_learning_rate: Optional[float] = None
    decay_steps: int = MISSING
    decay_rate: float = MISSING
    staircase: bool = False


@dataclass
class CosineDecayConfig:
    """Fall along half a cosine over a given number of steps."""

    _target_: str = "keras.optimizers.schedules.CosineDecay"
    initial_learning_rate: Optional[float] = None
    decay_steps: int = MISSING
    alpha: float = 0.0
    warmup_target: Optional[float] = None
    warmup_steps: int = 0


@dataclass
class PiecewiseConstantDecayConfig:
    """One rate up to the first boundary, the next up to the second, and so on."""

    _target_: str = "keras.optimizers.schedules.PiecewiseConstantDecay"
    boundaries: list[int] = MISSING
    values: list[float] = MISSING


SCHEDULES: dict[str, Any] = {
    "none": {},
    "warmup_cosine": WarmupCosineConfig,
    "exponential_decay": ExponentialDecayConfig,
    "cosine_decay": CosineDecayConfig,
    "piecewise_constant_decay": PiecewiseConstantDecayConfig,
}
