"""Variables and averaged copies that a task asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from framework.engine.averaging import Average, averaged_variables
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.task import Task


def state_variable(task: str, name: str, initial: Any, *, trainable: bool) -> keras.Variable:
    """Make a variable of a task's own; see `Task.state`.

    Raises:
        UserError: There is nothing to make it from, or several devices are at work on a step.
    """
    where = f'{task}.state("{name}")'
    if initial is None:
        raise UserError(
            f"the task has no variable {name!r}",
            where=where,
            fix=f'Make it in build_model: self.state("{name}", tf.zeros(...)).',
        )
    replica = tf.distribute.get_replica_context()
    if replica is not None and replica.num_replicas_in_sync > 1:
        raise UserError(
            f"the variable {name!r} is made in a step that runs on several devices",
            where=where,
            fix="Make it in build_model, before they begin.",
        )
    with tf.init_scope():
        value = np.asarray(initial)
        if type(initial) is float:  # not NumPy's, which says what it is
            value = value.astype(keras.config.floatx())
        return keras.Variable(
            value,
            dtype=value.dtype.name,
            trainable=trainable,
            autocast=False,
            name=name,
        )


def clone(model: Any, decay: float, copy: Any, where: str) -> keras.Model:
    """Return a model of the same architecture, not trainable; see `Task.ema_of`.

    Raises:
        UserError: The decay is out of range, or Keras cannot clone the model.
    """
    if not 0.0 <= decay <= 1.0:
        raise UserError(
            f"decay is {decay!r}", where=f"{where}, ema_of", fix="Give a number from 0 to 1."
        )
    if copy is None:
        try:
            copy = keras.models.clone_model(model)
        except (NotImplementedError, TypeError, ValueError) as error:
            raise UserError(
                f"Keras cannot clone a {type(model).__name__}",
                where=f"{where}, ema_of",
                fix="Give a second one of the same architecture: "
                "self.ema_of(model, decay, copy=make_model()).",
            ) from error
    copy.trainable = False
    return copy


def follow(model: keras.Model, copy: keras.Model, decay: float) -> Average:
    """Return the average that keeps a copy of a built model, as it is now."""
    if not copy.built:
        copy.build_from_config(model.get_build_config())
    sources, copies = averaged_variables([model]), averaged_variables([copy])
    # The copy is not trainable, so its weights may come in another order.
    by_place = {id(v): i for i, v in enumerate(model.variables)}
    places = [by_place[id(v)] for v in sources]
    if len(sources) != len(copies):
        raise UserError(
            f"the copy of {model.name} has {len(copies)} variables, the model {len(sources)}",
            where="ema_of",
            fix="Give a copy of the same architecture.",
        )
    return Average(sources, copies=[copy.variables[i] for i in places], decay=decay)


def task_followers(task: Task) -> dict[str, Average]:
    """Return the averages that `Task.ema_of` was asked for, by name; they outlive a run."""
    for number, (model, copy, decay) in enumerate(task.followers):
        name = f"ema_of-{number}"
        if name not in task.averages:
            task.averages[name] = follow(model, copy, decay)
    return dict(task.averages)
