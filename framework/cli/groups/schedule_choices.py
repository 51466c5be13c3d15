"""`schedule=`: how the optimizer's learning rate goes; Keras's own, and warm-up with a cosine.

A rate that is null here is the optimizer's: `optimizer.learning_rate`.
"""

# ruff: noqa: UP007, UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union

MISSING: Any = "???"
"""What OmegaConf takes for a value that must be given; it is not imported for `--help`'s sake."""


@dataclass
class WarmupCosineConfig:
    """Up from 0 in a straight line, then down by half a cosine."""

    _target_: str = "framework.schedules.WarmupCosine"
    peak: Optional[float] = None
    warmup: Union[int, float] = 0.05
    end: float = 0.0
    by: str = "step"
    total: Optional[int] = None


@dataclass
class ExponentialDecayConfig:
    """Down by the same factor every so many steps."""

    _target_: str = "keras.optimizers.schedules.ExponentialDecay"
    initial_learning_rate: Optional[float] = None
    decay_steps: int = MISSING
    decay_rate: float = MISSING
    staircase: bool = False


@dataclass
class CosineDecayConfig:
    """Down by half a cosine, over a given number of steps."""

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
