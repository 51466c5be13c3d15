"""`optimizer=`: the Keras optimizers, with Keras's defaults."""

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from framework.errors import UserError

AUTO = "auto"
"""The learning rate that has a new run find its own."""


@dataclass
class OptimizerConfig:
    """The options that all Keras optimizers share."""

    _target_: str = "keras.optimizers.Adam"
    _partial_: bool = True
    # A number, `auto`, or a schedule: a node with `_target_: keras.optimizers.schedules.X`.
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
    """Adam with the infinity norm."""

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

# The range of each option: lower bound, upper bound, and whether each bound is included.
_FROM_0 = (0.0, math.inf, True, False)
_ABOVE_0 = (0.0, math.inf, False, False)
_SHARE = (0.0, 1.0, True, False)
_RANGES: dict[str, tuple[float, float, bool, bool]] = {
    **dict.fromkeys(
        ("learning_rate", "weight_decay", "epsilon", "epsilon_1", "epsilon_2"), _FROM_0
    ),
    **dict.fromkeys(("beta_1", "beta_2", "rho"), _SHARE),
    **dict.fromkeys(("momentum", "ema_momentum"), (0.0, 1.0, True, True)),
    **dict.fromkeys(("clipnorm", "clipvalue", "global_clipnorm", "clip_threshold"), _ABOVE_0),
    "initial_accumulator_value": _FROM_0,
    "ema_overwrite_frequency": (1.0, math.inf, True, False),
    "beta_2_decay": (-math.inf, 0.0, False, False),
}


def in_range(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return an optimizer's node with its numbers in range, and in the form that Keras requires.

    A node that is not Keras's is returned unchanged.
    """
    found = dict(node)
    if not str(found.get("_target_")).startswith("keras.optimizers."):
        return found
    for name, (least, bound, with_least, with_bound) in _RANGES.items():
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        above = value > least or (with_least and value == least)
        if not (above and (value < bound or (with_bound and value == bound))):
            wanted = _in_words(least, bound, with_least, with_bound)
            raise UserError(
                f"optimizer.{name} is {value}", where=f"optimizer.{name}", fix=f"Give {wanted}."
            )
        if name != "ema_overwrite_frequency":
            found[name] = float(value)
    return found


def _in_words(least: float, bound: float, with_least: bool, with_bound: bool) -> str:
    if bound == math.inf:
        return f"{least:g} or more" if with_least else f"a number above {least:g}"
    if least == -math.inf:
        return f"a number below {bound:g}"
    return f"a number from {least:g} to {'' if with_bound else 'below '}{bound:g}"
