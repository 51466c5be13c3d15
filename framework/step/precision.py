"""The dtype policy of a run, and the loss scale of float16."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf


def set_precision(precision: str) -> None:
    """Make Keras build layers at `precision`; `float64` also changes its default float."""
    keras.config.set_floatx("float64" if precision == "float64" else "float32")
    keras.config.set_dtype_policy(precision)


class LossScale:
    """The dynamic loss scale of float16 training, one for all optimizers of a run.

    The loss is multiplied by the scale before it is differentiated, so that small gradients do
    not vanish in float16, and the gradients are divided by it again. When a gradient overflows,
    the update is skipped and the scale halved; after `growth_steps` good updates in a row it is
    doubled (Micikevicius et al., Mixed Precision Training, 2018).

    Example:
        >>> scale = LossScale()
        >>> float(scale.value)
        32768.0
    """

    def __init__(self, initial: float = 2.0**15, growth_steps: int = 2000) -> None:
        self.growth_steps = growth_steps
        self.value = tf.Variable(initial, dtype=tf.float32, trainable=False, name="loss_scale")
        self.good_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="good_steps")
        self.skipped = tf.Variable(0, dtype=tf.int64, trainable=False, name="skipped_steps")

    def finite(self, gradients: list[Any]) -> tf.Tensor:
        """Return whether every element of every gradient is finite."""
        return tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])

    def note_good(self) -> None:
        """Count a good update, and double the scale after enough of them."""
        self.good_steps.assign_add(1)
        grow = self.good_steps >= self.growth_steps
        self.good_steps.assign(tf.where(grow, tf.zeros_like(self.good_steps), self.good_steps))
        doubled = tf.minimum(self.value * 2.0, tf.float32.max / 2)
        self.value.assign(tf.where(grow, doubled, self.value))

    def note_overflow(self) -> tf.Tensor:
        """Count a skipped update, and halve the scale; the alternative to a good update."""
        self.good_steps.assign(0)
        self.skipped.assign_add(1)
        self.value.assign(tf.maximum(self.value / 2.0, 1.0))
        return tf.constant(False)

    def state(self) -> dict[str, Any]:
        """Return the three variables' values."""
        return {k: v.numpy() for k, v in self.variables.items()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Restore what `state` returned."""
        for name, variable in self.variables.items():
            variable.assign(state[name])

    @property
    def variables(self) -> dict[str, tf.Variable]:
        """The three variables by name."""
        return {"value": self.value, "good_steps": self.good_steps, "skipped": self.skipped}


def unscaled(gradients: list[Any], scale: Any) -> list[Any]:
    """Divide gradients by the scale of their loss."""
    inverse = 1.0 / scale
    return [g * tf.cast(inverse, g.dtype) for g in gradients]


_MOST_IN_FLOAT16 = 2.0**15  # the next power of two is infinite


def unscaled_gradient(tape: tf.GradientTape, target: Any, sources: Any, scale: tf.Tensor) -> Any:
    """Return a gradient that is computed scaled, so that it does not vanish in float16.

    It has at least float32; None where a source has no gradient.
    """
    factor = tf.minimum(scale, _MOST_IN_FLOAT16)
    seed = tf.nest.map_structure(lambda t: tf.ones_like(t) * tf.cast(factor, t.dtype), target)
    scaled = tape.gradient(target, sources, output_gradients=seed)

    def unscale(gradient: Any) -> Any:
        if gradient is None:
            return None
        dtype = tf.float64 if gradient.dtype == tf.float64 else tf.float32
        return tf.cast(gradient, dtype) / tf.cast(factor, dtype)

    return tf.nest.map_structure(unscale, scaled)
