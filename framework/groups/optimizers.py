"""`optimizer=`: the optimizers of Keras, with Keras's own defaults."""

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional


@dataclass
class OptimizerConfig:
    """What every optimizer of Keras can do."""

    _target_: str = "keras.optimizers.Adam"
    _partial_: bool = True
    # A number, or a schedule: a node with a `_target_` such as keras.optimizers.schedules.X.
    learning_rate: Any = 0.001
    weight_decay: Optional[float] = None
    clipnorm: Optional[float] = None
    clipvalue: Optional[float] = None
    global_clipnorm: Optional[float] = None
    use_ema: bool = False
    ema_momentum: float = 0.99
    ema_overwrite_frequency: Optional[int] = None


@dataclass
class AdamConfig(OptimizerConfig):
    """Adam."""

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7
    amsgrad: bool = False


@dataclass
class AdamWConfig(AdamConfig):
    """Adam with decoupled weight decay."""

    _target_: str = "keras.optimizers.AdamW"
    weight_decay: Optional[float] = 0.004


@dataclass
class NadamConfig(OptimizerConfig):
    """Adam with Nesterov momentum."""

    _target_: str = "keras.optimizers.Nadam"
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-7


@dataclass
class AdamaxConfig(NadamConfig):
    """Adam after the infinity norm."""

    _target_: str = "keras.optimizers.Adamax"


@dataclass
class SGDConfig(OptimizerConfig):
    """Gradient descent, with or without momentum."""

    _target_: str = "keras.optimizers.SGD"
    learning_rate: Any = 0.01
    momentum: float = 0.0
    nesterov: bool = False


@dataclass
class RMSpropConfig(OptimizerConfig):
    """RMSprop."""

    _target_: str = "keras.optimizers.RMSprop"
    rho: float = 0.9
    momentum: float = 0.0
    epsilon: float = 1e-7
    centered: bool = False


@dataclass
class AdagradConfig(OptimizerConfig):
    """Adagrad."""

    _target_: str = "keras.optimizers.Adagrad"
    initial_accumulator_value: float = 0.1
    epsilon: float = 1e-7


@dataclass
class LionConfig(OptimizerConfig):
    """Lion: the sign of the momentum."""

    _target_: str = "keras.optimizers.Lion"
    beta_1: float = 0.9
    beta_2: float = 0.99


@dataclass
class AdafactorConfig(OptimizerConfig):
    """Adafactor: little memory for the second moment."""

    _target_: str = "keras.optimizers.Adafactor"
    beta_2_decay: float = -0.8
    epsilon_1: float = 1e-30
    epsilon_2: float = 1e-3
    clip_threshold: float = 1.0
    relative_step: bool = True


OPTIMIZERS: dict[str, Any] = {
    "none": {},
    "adam": AdamConfig,
    "adamw": AdamWConfig,
    "nadam": NadamConfig,
    "adamax": AdamaxConfig,
    "sgd": SGDConfig,
    "rmsprop": RMSpropConfig,
    "adagrad": AdagradConfig,
    "lion": LionConfig,
    "adafactor": AdafactorConfig,
}
