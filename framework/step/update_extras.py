"""What callbacks add to every update: a factor on it, and a copy of its gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.devices.replicas import Replicas
from framework.errors import UserError
from framework.step.keras_trainer_duties import overwrites
from framework.step.optimizers import NamedOptimizer

Factor = Callable[[Any], Any]
"""The factor of an update, computed in the graph from the number of steps done before it."""


class UpdateExtras:
    """Scale updates of chosen weights, and keep gradients; implements `Updates`.

    The graph has nothing of this unless a callback asked for it in `on_setup`.

    Example:
        >>> extras = UpdateExtras([], Replicas(""))
        >>> extras.scale(model.trainable_variables, lambda step: 0.1)

    Args:
        optimizers: The optimizers of the run.
        replicas: The devices.
    """

    def __init__(self, optimizers: Iterable[NamedOptimizer], replicas: Replicas) -> None:
        self._optimizers, self._replicas = list(optimizers), replicas
        self._factors: dict[int, Factor] = {}
        self._kept: dict[int, tf.Variable] = {}

    @property
    def optimizers(self) -> dict[str, keras.Optimizer]:
        """The optimizers by name."""
        return {each.name: each.optimizer for each in self._optimizers}

    @property
    def variables(self) -> list[tf.Variable]:
        """The copies of gradients, which a step assigns and no checkpoint needs."""
        return list(self._kept.values())

    # ---- what callbacks ask for

    def scale(self, variables: Sequence[keras.Variable], factor: Factor) -> None:
        """Multiply every update of weights by a factor; see `Updates.scale`."""
        chosen = {id(v) for v in variables}
        for each in self._optimizers:
            if each.optimizer.use_ema and any(id(v) in chosen for v in each.owned):
                raise UserError(
                    f"the optimizer {each.name!r} has use_ema, which would average updates at "
                    "their full rate",
                    where=f"{type(each.optimizer).__name__}(use_ema=True)",
                    fix="Leave use_ema out and give callbacks=ema.",
                )
        self._factors |= {id(v): factor for v in variables if not overwrites(v)}

    def keep_gradients(self) -> None:
        """Keep the gradients of each step's last update; see `Updates.keep_gradients`."""
        for variable in (v for each in self._optimizers for v in each.owned):
            if id(variable) not in self._kept and not overwrites(variable):
                zeros = np.zeros(variable.shape, variable.dtype)
                self._kept[id(variable)] = tf.Variable(zeros, trainable=False, name="gradient")

    def gradient(self, variable: keras.Variable) -> np.ndarray[Any, Any] | None:
        """Return the kept gradient of a weight; see `Updates.gradient`."""
        found = self._kept.get(id(variable))
        return None if found is None else np.asarray(found.numpy())

    def load_gradient(self, variable: keras.Variable, value: np.ndarray[Any, Any]) -> None:
        """Set the kept gradient of a weight; see `Updates.load_gradient`."""
        found = self._kept.get(id(variable))
        if found is not None and tuple(found.shape) == np.shape(value):
            found.assign(value)

    # ---- in the graph

    def before(
        self,
        variables: Sequence[keras.Variable],
        gradients: Sequence[Any],
        step: Any,
        *,
        training: bool,
    ) -> Mapping[str, list[Any]]:
        """Return what `after` needs from before the update, on each device.

        Args:
            variables: The weights that are updated.
            gradients: Their unscaled gradients, summed over devices and not clipped.
            step: Steps done.
            training: Whether this is a training step; an evaluation that trains keeps nothing.
        """
        scaled = self._scaled(variables)
        kept = {id(v): g for v, g in zip(variables, gradients, strict=True) if id(v) in self._kept}
        return {
            "old": [tf.identity(v) for v in scaled],
            "factors": [tf.cast(self._factors[id(v)](step), v.dtype) for v in scaled],
            "gradients": list(kept.values()) if training else [],
        }

    def after(self, variables: Sequence[keras.Variable], known: Mapping[str, list[Any]]) -> None:
        """Scale the update that was made, and keep its gradients, for all devices at once."""
        scaled = self._scaled(variables)
        for variable, old, factor in zip(scaled, known["old"], known["factors"], strict=True):
            self._replicas.change(variable, _between, old, factor)
        if known["gradients"]:
            copies = {id(v): self._kept[id(v)] for v in variables if id(v) in self._kept}
            for copy, gradient in zip(copies.values(), known["gradients"], strict=True):
                self._replicas.change(copy, lambda c, g: c.assign(tf.cast(g, c.dtype)), gradient)

    def _scaled(self, variables: Sequence[keras.Variable]) -> list[keras.Variable]:
        """Return those with a factor, each once: two losses may update the same one."""
        return list({id(v): v for v in variables if id(v) in self._factors}.values())


def _between(variable: Any, old: Any, factor: Any) -> Any:
    # At a factor of 1, the bits are those of the optimizer.
    part = old + factor * (variable - old)
    return variable.assign(tf.where(tf.equal(factor, 1.0), variable, part))
