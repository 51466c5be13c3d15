"""Checks the loss that a step returns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from framework.compat import clear_losses
from framework.core.models_by_name import models_of
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.task import Task


def add_model_losses(loss: tf.Tensor, model: Any) -> tf.Tensor:
    """Add the terms of regularizers and `add_loss` to a loss, in its dtype.

    Each term counts once, even if several models share its layer.
    """
    added: dict[int, tf.Tensor] = {}
    regularized: dict[int, keras.Variable] = {}
    for each in models_of(model).values():
        own = [v for v in each.trainable_weights if v.regularizer is not None]
        regularized |= {id(v): v for v in own}
        # Keras lists the terms of `add_loss` first, the same tensors for every model.
        added |= {id(term): term for term in each.losses[: len(each.losses) - len(own)]}
    terms = [*added.values(), *(v.regularizer(v) for v in regularized.values())]
    return tf.add_n([loss, *(tf.cast(term, loss.dtype) for term in terms)]) if terms else loss


def forget_model_losses(model: Any) -> None:
    """Drop the `add_loss` terms of an earlier call, for steps that do not call the model."""
    for each in models_of(model).values():
        clear_losses(each)


def scalar_loss(value: Any, task: Task, name: str | None = None) -> tf.Tensor:
    """Return a loss, of optimizer `name` if there are several, as a scalar of at least float32."""
    where = f"{type(task).__name__}.train_step"
    what = "train_step" if task.automatic_optimization else "minimize's loss_fn"
    what += f" for {name!r}" if name else ""
    if value is None:
        raise UserError(
            f"{what} returned None",
            where=where,
            fix="Return the scalar loss, or set automatic_optimization = False and call "
            "self.apply_gradients(tape, loss)."
            if task.automatic_optimization
            else "Return the scalar loss from it.",
        )
    try:
        loss = tf.convert_to_tensor(value)
    except (TypeError, ValueError):
        raise UserError(
            f"{what} returned a {type(value).__name__}, not a scalar loss",
            where=where,
            fix='Return the loss alone, and report the rest: self.log("accuracy", value).',
        ) from None
    check_scalar(loss, f"{what} returned", where)
    return loss if loss.dtype == tf.float64 else tf.cast(loss, tf.float32)


def check_scalar(loss: tf.Tensor, what: str, where: str) -> None:
    """Reject a loss that is not a floating-point scalar."""
    if loss.shape.rank == 0 and loss.dtype.is_floating:
        return
    fix = "Reduce it to its mean: tf.reduce_mean(loss)."
    if not loss.dtype.is_floating:
        fix = "Give a floating-point scalar computed from self.model's output."
    raise UserError(
        f"{what} a {loss.dtype.name} tensor of shape {loss.shape}, not a scalar loss",
        where=where,
        fix=fix,
    )


def refuse_output(value: Any, task: Task) -> None:
    """Reject a value returned by a manual step, since it would not be used."""
    if value is not None:
        raise UserError(
            "train_step returned a value, but automatic_optimization is False",
            where=f"{type(task).__name__}.train_step",
            fix='Report it with self.log("loss", loss) and return nothing, or set '
            "automatic_optimization = True.",
        )
