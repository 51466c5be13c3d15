"""The single pipeline from a loss to new weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from framework.core.dtypes import as_dtype
from framework.devices.replicas import Replicas
from framework.step.averaging import Average
from framework.step.keras_trainer_duties import by_trainer, check_whole, overwrites, scaled
from framework.step.optimizers import NamedOptimizer, Optimizers
from framework.step.precision import LossScale, unscaled
from framework.step.update_extras import UpdateExtras


@dataclass(frozen=True)
class Part:
    """The gradients of one loss, for the optimizers that apply them.

    Attributes:
        optimizers: Each optimizer with the weights that it updates.
        gradients: One per weight, in that order; None if the loss does not depend on it.
    """

    optimizers: Sequence[tuple[NamedOptimizer, Sequence[keras.Variable]]]
    gradients: Sequence[Any]

    @property
    def name(self) -> str:
        """The optimizers' names."""
        return "+".join(each.name for each, _ in self.optimizers)


class Update:
    """Update weights from a loss, with the same order of operations in every mode.

        scale the loss -> gradients -> (add up micro-batches) -> sum over devices -> unscale
        -> one finite check -> clip -> apply -> scale the update -> average

    If a float16 gradient overflows on any device, all devices skip the update. Clipping uses the
    gradient of the whole batch. Averages use the new weights.

    Args:
        optimizers: The built optimizers.
        replicas: The devices.
        loss_scale: The dynamic loss scale of float16. None: use the `loss_scale_factor` of the
            optimizers, if any.
        clip_norm: Maximum global norm of a loss's gradients.
        clip_value: Clip each element of a gradient to -clip_value..clip_value.

    Attributes:
        averages: Averages that follow the weights, by name.
        extras: What callbacks add to every update.
    """

    def __init__(
        self,
        optimizers: Optimizers,
        *,
        replicas: Replicas,
        loss_scale: LossScale | None = None,
        clip_norm: float | None = None,
        clip_value: float | None = None,
    ) -> None:
        self.optimizers, self.replicas, self.loss_scale = optimizers, replicas, loss_scale
        self._clip_norm, self._clip_value = clip_norm, clip_value
        self.averages: Mapping[str, Average] = {}
        self.extras = UpdateExtras(optimizers, replicas)

    @property
    def scale(self) -> Any:
        """The factor of losses before they are differentiated, or None."""
        return self.optimizers.factor if self.loss_scale is None else self.loss_scale.value

    def gradients(
        self, tape: tf.GradientTape, loss: tf.Tensor, variables: Sequence[Any], share: Any = None
    ) -> list[Any]:
        """Differentiate a loss, multiplied by the loss scale and its share of the step's examples.

        The result is dense: a sparse gradient may have a row twice, and norms, clipping and some of
        Keras's optimizers do not sum these.
        """
        # With `output_gradients`, since a closed tape does not record a multiplication.
        seed = None if self.scale is None else as_dtype(self.scale, loss.dtype)
        if share is not None:
            check_whole(variables)
            share = as_dtype(share, loss.dtype)
            seed = share if seed is None else seed * share
        found = tape.gradient(loss, list(variables), output_gradients=seed)
        found = [None if g is None else tf.convert_to_tensor(g) for g in found]
        if share is None:
            return found
        # Without rows, the loss or its gradients may be NaN, and 0 * NaN is not 0. Finite values
        # may come from other devices, through `gather`.
        counts = share > 0

        def checked(gradient: tf.Tensor) -> tf.Tensor:
            good = tf.logical_or(counts, tf.math.is_finite(gradient))
            return tf.where(good, gradient, tf.zeros_like(gradient))

        return [None if g is None else checked(g) for g in found]

    def apply(
        self, parts: Sequence[Part], step: Any = 0, *, training: bool = True
    ) -> tuple[list[tf.Tensor], Any]:
        """Update the weights with this device's scaled gradients of each loss.

        Args:
            parts: This device's gradients of each loss.
            step: Steps done before this one.
            training: Whether it is a training step, not an evaluation that trains.

        Returns:
            The global norm of each part before clipping, and whether all gradients are finite
            (True without a loss scale).
        """
        # If all weights are frozen, there are no gradients.
        if all(g is None for part in parts for g in part.gradients):
            return [tf.constant(0.0) for _ in parts], True
        counts = [sum(g is not None for g in part.gradients) for part in parts]
        variables = [v for _, own in _by_optimizer(parts) for v in own]
        values = [overwrites(variable) for variable in variables]
        flat = self.replicas.sum([g for part in parts for g in part.gradients if g is not None])
        finite: Any = True
        if self.scale is not None:
            true = unscaled(flat, self.scale)
            flat = [g if new else t for g, t, new in zip(flat, true, values, strict=True)]
        if self.loss_scale is not None:
            finite = self.loss_scale.finite(flat)
        known = self.extras.before(variables, flat, step, training=training)
        norms, clipped = [], []
        for count in counts:
            gradients, flat = flat[:count], flat[count:]
            new, values = values[:count], values[count:]
            slopes = [g for g, is_value in zip(gradients, new, strict=True) if not is_value]
            norms.append(tf.linalg.global_norm(slopes) if slopes else tf.constant(0.0))
            rest = iter(self._clipped(slopes, norms[-1]))
            clipped += [g if v else next(rest) for g, v in zip(gradients, new, strict=True)]
        self.replicas.together(partial(self._apply_together, parts), clipped, finite, known)
        return norms, finite

    def _clipped(self, gradients: list[Any], norm: tf.Tensor) -> list[Any]:
        if self._clip_value is not None:
            limit = self._clip_value
            gradients = [tf.clip_by_value(g, -limit, limit) for g in gradients]
            norm = tf.linalg.global_norm(gradients)
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm, use_norm=norm)
        return gradients

    def _apply_together(
        self, parts: Sequence[Part], gradients: list[Any], finite: Any, known: Any
    ) -> None:
        updates = _by_optimizer(parts)
        weights = [v for _, variables in updates for v in variables]
        updated = {id(v) for v in weights}

        def apply(gradients: list[Any]) -> None:
            rest = list(gradients)
            for optimizer, variables in updates:
                own, rest = rest[: len(variables)], rest[len(variables) :]
                # As in `Model.fit`, since a custom optimizer may override `apply_gradients`.
                pairs = zip(scaled(optimizer, own), variables, strict=True)
                with by_trainer(optimizer):
                    optimizer.apply_gradients(list(pairs))

        def good() -> tf.Tensor:
            self.replicas.each(apply, gradients)
            self.extras.after(weights, known)
            for average in self.averages.values():
                if average.follows(updated):
                    average.update(self.replicas)
            if self.loss_scale is not None:
                self.loss_scale.note_good()
            return tf.constant(True)

        if self.loss_scale is None:
            good()
        else:
            tf.cond(self.replicas.first(finite), good, self.loss_scale.note_overflow)


def _by_optimizer(parts: Sequence[Part]) -> list[tuple[keras.Optimizer, list[keras.Variable]]]:
    """Return each optimizer with the variables that have a gradient, in the gradients' order."""
    found = []
    for part in parts:
        gradients = iter(part.gradients)
        for each, variables in part.optimizers:
            known = [v for v in variables if next(gradients) is not None]
            if known:
                found.append((each.optimizer, known))
    return found
