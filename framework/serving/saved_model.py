"""TensorFlow's SavedModel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from framework.serving.answers import Arrays
from framework.serving.quiet import quiet
from framework.serving.trained import Trained
from framework.serving.unsupported import operations_of, unsupported
from framework.step.find_objects import saved_by_keras
from framework.step.task_variables import searched

_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}  # calls of this process
_SIGNATURE = "serving_default"


def write(trained: Trained, path: Path, about: str) -> None:
    """Write a directory with the signature `serving_default`."""
    module = tf.Module()
    module.variables_of_task, module.parts = _parts(trained)
    signature = trained.answers.function
    if python := operations_of(trained) & _PYTHON:
        raise unsupported("saved_model", python, trained)
    with quiet():
        tf.saved_model.save(module, str(path), signatures={_SIGNATURE: signature})
    (path / "assets.extra").mkdir(exist_ok=True)  # where TensorFlow keeps what it does not read
    (path / "assets.extra" / "model.json").write_text(about)


def read(path: Path, trained: Trained) -> Callable[[Arrays], Arrays]:
    """Return the function that such a directory holds."""
    loaded = tf.saved_model.load(str(path))
    answer: Any = loaded.signatures[_SIGNATURE]

    def call(given: Arrays) -> Arrays:
        found = answer(**{name: tf.constant(array) for name, array in given.items()})
        return {name: tensor.numpy() for name, tensor in found.items()}

    return call


def _parts(trained: Trained) -> tuple[list[Any], list[keras.Layer]]:
    """Return what the function may use: variables, and layers without any, which may have tables.

    LiteRT's converter turns only those variables into constants that it does not reach by a layer.
    """
    found = saved_by_keras(searched(trained.task)).values()
    layers = [each for each in found if isinstance(each, keras.Layer)]
    used = [v for layer in layers for v in layer.variables]
    used += trained.task.runtime.variables.values()
    return list({id(v): v.value for v in used}.values()), [e for e in layers if not e.variables]
