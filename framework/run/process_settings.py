"""Isolate the process-wide settings that a run changes, and restore them afterwards."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from copy import copy

import keras
import numpy as np
import tensorflow as tf

from framework.compat import (
    deterministic_operations,
    eager_random_state,
    global_seed,
    keras_global,
    set_keras_global,
)
from framework.run.ordered_sums import added_in_order
from framework.step.precision import set_precision

# Keras keeps these per process, with no public way to read and write all of them.
_KERAS_GLOBALS = ("object_name_uids", "global_random_seed", "global_seed_generator", "dtype_policy")


@contextmanager
def isolated(precision: str, *, deterministic: bool = False) -> Iterator[None]:
    """Run the body with its own precision and layer names, and restore everything afterwards.

    This restores the dtype policy, Keras's default float type, its counters of layer names, and the
    random state of Python, NumPy, TensorFlow and Keras, however the body ends.

    Example:
        >>> with isolated("mixed_bfloat16"):
        ...     model = keras.Sequential([keras.layers.Dense(1)])
        >>> keras.config.dtype_policy().name
        'float32'

    Args:
        precision: See `set_precision`.
        deterministic: Make TensorFlow's operations deterministic in the body.
    """
    keras_globals = {name: copy(keras_global(name)) for name in _KERAS_GLOBALS}
    floatx, seed = keras.config.floatx(), global_seed()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    drawing = eager_random_state()
    operation_seeds = None if drawing is None else drawing.getstate()
    try:
        set_keras_global("object_name_uids", None)
        set_precision(precision)
        operations = deterministic_operations() if deterministic else nullcontext()
        with operations, added_in_order():
            yield
    finally:
        for name, value in keras_globals.items():
            set_keras_global(name, value)
        keras.config.set_floatx(floatx)
        tf.random.set_seed(seed)
        if operation_seeds is not None:  # setting the seed restarts their sequence
            eager_random_state().setstate(operation_seeds)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
