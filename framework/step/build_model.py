"""Builds a task's model, and explains failures in its code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from framework.compat import layers_within, scratch_graph
from framework.core.models_by_name import models_of
from framework.core.user_code import _NO_VALUES, _message, user_code
from framework.errors import UserError
from framework.sources.rows_axis import rows_open
from framework.step.any_batch_size import built_layers, leave_rows_open

if TYPE_CHECKING:
    from framework.task import Task


def build_model(task: Task) -> Any:
    """Return the task's model, or raise a UserError if `build_model` returned something else."""
    where = f"{type(task).__name__}.build_model"
    with user_code(where):
        model = task.build_model()
    models = models_of(model)
    for name, each in models.items():
        if not isinstance(each, keras.Layer):
            what = f"{type(each).__name__}" + (f" for {name!r}" if len(models) > 1 else "")
            raise UserError(
                f"build_model returned a {what}, not a keras.Model",
                where=where,
                fix="Return the model, a layer, or a dict of them by name.",
            )
    if not models:
        fix = "Return a keras.Model, or a dict of them by name."
        raise UserError("build_model returned no model", where=where, fix=fix)
    return model


def is_built(model: Any) -> bool:
    """Return whether every model has its weights."""
    return all(each.built for each in models_of(model).values())


def build_by_tracing(
    step: Callable[[Any], Any], spec: Any, task: Task, name: str, rows_axis: Any = 0
) -> None:
    """Build a model by tracing a step on a symbolic batch with the shapes of the data.

    Nothing runs: the trace is discarded, and only the weights that it created are kept.
    """
    where, named = f"{type(task).__name__}.{name}", models_of(task.model)
    models = list(named.values())
    before = built_layers(models)
    try:
        _trace(step, rows_open(spec, rows_axis))
    except Exception:  # a step may need a static number of rows
        with user_code(where, spec), _in_python(task, where):
            _trace(step, spec)
        leave_rows_open(models, before)
    for layer in (each for model in models for each in layers_within(model)):
        if id(layer) not in before and hasattr(layer, "finalize_state"):
            layer.finalize_state()  # it was computed from symbolic variables
    for model, copy, _ in task.runtime.followers:  # a step may not call them
        if model.built and not copy.built:
            copy.build_from_config(model.get_build_config())
    missing = [repr(n) for n, model in named.items() if not model.built]
    if missing:
        raise UserError(
            f"{name} never calls the model" + (f" {', '.join(missing)}" if len(named) > 1 else ""),
            where=where,
            fix="Call self.model(x) in it, or return a built model: "
            "keras.Sequential([keras.Input(shape), ...]).",
        )


@contextmanager
def _in_python(task: Task, where: str) -> Iterator[None]:
    """Explain errors of a step that runs in Python and needs values, which a trace lacks."""
    try:
        yield
    except Exception as error:
        if task.trainer.config.engine != "eager" or not _NO_VALUES.search(str(error)):
            raise
        raise UserError(
            "the model gets its weights by tracing the step on the shape of the data, and the "
            f"step needs values: {_message(error)}",
            where=where,
            fix="Return a built model: keras.Sequential([keras.Input(shape), ...]), or call "
            "model.build((None, features)) in build_model.",
        ) from error


def _trace(step: Callable[[Any], Any], spec: Any) -> None:
    # Not tf.function, which traces a function that creates variables twice.
    with scratch_graph("build").as_default():
        step(tf.nest.map_structure(lambda s: tf.compat.v1.placeholder(s.dtype, s.shape), spec))
