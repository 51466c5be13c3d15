"""What Keras splits between an optimizer and the trainer that calls it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import keras

from framework.engine.precision import LossScale
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.engine.optimizers import NamedOptimizer


def check_protocol(optimizer: keras.Optimizer) -> None:
    """Refuse what an optimizer of Keras would leave to `Model.fit`, and the trainer does itself.

    Args:
        optimizer: What a task is to be trained with.

    Raises:
        UserError: It scales the loss or shares out the weights in a way of its own.
    """
    what = fix = ""
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        what = "it shares out the weights among optimizers of its own"
        fix = (
            "Return a dict from configure_optimizers: {name: (optimizer, weights)} gives each "
            "part of the weights its optimizer."
        )
    elif _overrides(optimizer, "scale_loss"):
        what = "its scale_loss would have to be called with the loss"
        fix = "Leave it out: precision=mixed_float16 has the trainer scale the loss."
    if what:
        raise UserError(
            f"{type(optimizer).__name__} cannot be used here: {what}",
            where="configure_optimizers",
            fix=fix,
        )


def unwrapped(optimizer: keras.Optimizer) -> tuple[keras.Optimizer, LossScale | None]:
    """Return what a `LossScaleOptimizer` wraps, and a loss scale of its settings.

    The trainer scales the loss itself, since all optimizers and devices share one check.
    """
    if type(optimizer) is not keras.optimizers.LossScaleOptimizer:
        return optimizer, None
    scale = LossScale(optimizer.initial_scale, optimizer.dynamic_growth_steps)
    return optimizer.inner_optimizer, scale


def scaled(optimizer: keras.Optimizer, gradients: list[Any]) -> list[Any]:
    """Return gradients as an optimizer takes them that divides them by `loss_scale_factor`."""
    factor = optimizer.loss_scale_factor
    return gradients if factor is None else [g * factor for g in gradients]


def finalizes(optimizers: Iterable[NamedOptimizer]) -> bool:
    """Tell whether an optimizer has a last word on the weights, such as `use_ema` has."""
    return any(
        each.optimizer.use_ema or _overrides(each.optimizer, "finalize_variable_values")
        for each in optimizers
    )


def finalize(optimizers: Iterable[NamedOptimizer]) -> None:
    """Let each optimizer set the final values of its weights, as `Model.fit` does at its end."""
    for each in optimizers:
        each.optimizer.finalize_variable_values(list(each.owned))


def overwrites(variable: keras.Variable) -> bool:
    """Tell whether a variable's gradient is its new value, such as a float8 scale's."""
    return bool(getattr(variable, "overwrite_with_gradient", False))


def knows(optimizer: keras.Optimizer, variables: Iterable[keras.Variable]) -> bool:
    """Tell whether a built optimizer has slots for variables."""
    try:
        optimizer._check_variables_are_known(list(variables))
    except ValueError:
        return False
    return True


def _overrides(optimizer: keras.Optimizer, method: str) -> bool:
    return getattr(type(optimizer), method) is not getattr(keras.Optimizer, method)
