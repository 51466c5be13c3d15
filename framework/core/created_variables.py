"""Create variables and model copies for a task."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.errors import UserError


def state_variable(task: str, name: str, initial: Any, *, trainable: bool) -> keras.Variable:
    """Create a variable of a task; see `Task.variable`."""
    where = f'{task}.variable("{name}")'
    if initial is None:
        raise UserError(
            f"the task has no variable {name!r}",
            where=where,
            fix=f'Make it in build_model: self.variable("{name}", tf.zeros(...)).',
        )
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        raise UserError(
            f"the variable {name!r} is made in a step that runs on several devices",
            where=where,
            fix="Create it in build_model, before the steps run.",
        )
    with tf.init_scope():
        value = np.asarray(initial)
        if type(initial) is float:  # not NumPy's, which has a dtype
            value = value.astype(keras.config.floatx())
        return keras.Variable(
            value, dtype=value.dtype.name, trainable=trainable, autocast=False, name=name
        )


def clone(model: Any, decay: float, copy: Any, where: str) -> keras.Layer:
    """Return an untrainable model of the same architecture; see `Task.ema_of`."""
    if not 0.0 <= decay <= 1.0:
        raise UserError(
            f"decay is {decay!r}", where=f"{where}, ema_of", fix="Give a number from 0 to 1."
        )
    if copy is None:
        try:
            copy = _cloned(model)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise UserError(
                f"Keras cannot clone a {type(model).__name__}",
                where=f"{where}, ema_of",
                fix="Pass a second model of the same architecture: "
                "self.ema_of(model, decay, copy=make_model()).",
            ) from error
    copy.trainable = False
    return copy


def _cloned(model: keras.Layer) -> keras.Layer:
    if isinstance(model, keras.Model):
        return keras.models.clone_model(model)
    copy = type(model).from_config(model.get_config())
    if model.built:
        copy.build_from_config(model.get_build_config())
    return copy
