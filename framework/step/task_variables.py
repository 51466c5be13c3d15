"""The variables and averaged copies of a task."""

from __future__ import annotations

import random
from collections.abc import Iterable, Set
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from framework.compat import keras_global, keras_seed_generator, set_keras_global
from framework.core.models_by_name import models_of
from framework.errors import UserError
from framework.step.averaging import Average, averaged_variables
from framework.step.find_objects import handles, reachable, saved_by_keras
from framework.step.layer_extras import layer_state, load_layer_state

if TYPE_CHECKING:
    from framework.step.update import Update
    from framework.task import Task


def held_variables(
    task: Task, known: Iterable[Any], updated: Iterable[Any], written: Set[int] | None
) -> dict[str, Any]:
    """Return the variables outside models and optimizers that may change, by path from the task.

    These are seeds, statistics, metrics, and variables that a step assigns. A layer's weight that
    no optimizer updates and no step assigns, such as a teacher's, does not change and is left out.

    Args:
        task: The task; its attributes and those of its models' layers are searched.
        known: Variables that are handled elsewhere.
        updated: Weights that optimizers update.
        written: Handles of what the compiled steps write. None: unknown.
    """
    seen, changing = {id(v) for v in known}, {id(v) for v in updated}
    found: dict[str, Any] = {}
    for name, variable, of_layer in reachable(searched(task)):
        fixed = of_layer and id(variable) not in changing and written is not None
        fixed = fixed and not handles(variable) & (written or set())
        if id(variable) not in seen and not fixed:
            seen.add(id(variable))
            found[name] = variable
    return found


def searched(task: Task) -> dict[str, Any]:
    """Return the parts of a task that may have state: its attributes and models, by name."""
    own = {name: value for name, value in vars(task).items() if name not in _NOT_SEARCHED}
    return {"model": models_of(task.model), **own}


_NOT_SEARCHED = ("trainer", "model", "data", "_runtime")


def unowned(task: Task, tape: tf.GradientTape, owned: Iterable[Any]) -> dict[str, Any]:
    """Return the weights that a tape has recorded, but no model has and no optimizer updates."""
    models = [v for model in models_of(task.model).values() for v in model.variables]
    known = {h for v in (*models, *owned) for h in handles(v)}
    used = {h: v for v in tape.watched_variables() for h in handles(v) if h not in known}
    if not used:
        return {}
    search = reachable(searched(task))
    ways = {h: (name, each.trainable) for name, each, _ in search for h in handles(each)}
    named = {h: ways.get(h, (v.name, True)) for h, v in used.items()}
    return {name: used[h] for h, (name, trainable) in named.items() if trainable}


def follow(model: keras.Layer, copy: keras.Layer, decay: float) -> Average:
    """Return an average that updates a copy of a built model, starting from its current weights."""
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
    average = Average(sources, copies=[copy.variables[i] for i in places], decay=decay)
    load_layer_state(saved_by_keras({"": copy}), layer_state(saved_by_keras({"": model})))
    return average


def task_followers(task: Task) -> dict[str, Average]:
    """Return the averages created by `Task.ema_of`, by name; they are kept after a run."""
    for number, (model, copy, decay) in enumerate(task.runtime.followers):
        name = f"ema_of-{number}"
        if name not in task.runtime.averages:
            task.runtime.averages[name] = follow(model, copy, decay)
    return dict(task.runtime.averages)


def global_seed(*, make: bool = False, everywhere: bool = False) -> Any:
    """Return the variable of the seed generator for Keras's random operations without a seed.

    `make` creates it if it does not exist; `everywhere` also if it is not on all devices.
    """
    found = keras_global("global_seed_generator")
    if everywhere and found is not None and not hasattr(found.state.value, "values"):
        found = None  # it was made before the devices were known
        set_keras_global("global_seed_generator", None)
    if found is None and (make or everywhere):
        drawn = random.getstate()  # layers that are built later draw their seeds from it
        found = keras_seed_generator()
        random.setstate(drawn)
    return None if found is None else found.state


def assignable(task: Task, update: Update | None, *, training: bool) -> list[Any]:
    """Return the floating-point variables that a step may assign but no optimizer updates."""
    found = [v for v in task.runtime.variables.values() if not v.trainable]
    if training:
        models = models_of(task.model).values()
        found += [v for model in models for v in model.non_trainable_variables]
    averages = {} if update is None else update.averages
    pairs = [pair for a in averages.values() for pair in zip(a.sources, a.copies, strict=True)]
    # Weights and their averages are equal on all devices; statistics are not yet.
    found += [copy for source, copy in pairs if training and not source.trainable]
    alike = {id(copy) for source, copy in pairs if source.trainable}
    unique = {id(v): v for v in found if "float" in str(v.dtype)}
    return [v for key, v in unique.items() if key not in alike]


def changing_variables(task: Task, update: Update | None) -> list[Any]:
    """Return all variables that a step may change: models, task, optimizers and averages."""
    found = [v for model in models_of(task.model).values() for v in model.variables]
    found += task.runtime.variables.values()
    if update is not None:
        found += [v for each in update.optimizers for v in each.optimizer.variables]
        found += [copy for each in update.averages.values() for copy in each.copies]
        if update.loss_scale is not None:
            found += update.loss_scale.variables.values()
    return list({id(v): v for v in found}.values())
