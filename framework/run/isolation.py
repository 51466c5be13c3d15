"""What a run changes in the process, and how it is put back."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.eager import context
from tensorflow.python.framework import config as tf_config

from framework.run.ordered_sums import added_in_order
from framework.step.precision import set_precision

# Keras keeps these for the whole process and offers no way to read and write all of them.
_KERAS_GLOBALS = ("object_name_uids", "global_random_seed", "global_seed_generator", "dtype_policy")


@contextmanager
def isolated(precision: str, *, deterministic: bool = False) -> Iterator[None]:
    """Run the body at a precision and with layer names of its own, and leave no trace.

    The dtype policy, Keras's default float, its counters of layer names, and the random state of
    Python, NumPy, TensorFlow and Keras are afterwards what they were, however the body ends.

    Example:
        >>> with isolated("mixed_bfloat16"):
        ...     model = keras.Sequential([keras.layers.Dense(1)])
        >>> keras.config.dtype_policy().name
        'float32'

    Args:
        precision: See `set_precision`.
        deterministic: Make TensorFlow's operations deterministic meanwhile.
    """
    keras_globals = {name: copy(_get(name)) for name in _KERAS_GLOBALS}
    floatx, seed = keras.config.floatx(), context.global_seed()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    operation_seeds = context.context()._rng.getstate() if seed is not None else None
    was_deterministic = tf_config.is_op_determinism_enabled()
    try:
        global_state.set_global_attribute("object_name_uids", None)
        set_precision(precision)
        if deterministic:
            tf.config.experimental.enable_op_determinism()
        with added_in_order(everywhere=deterministic):
            yield
    finally:
        for name, value in keras_globals.items():
            global_state.set_global_attribute(name, value)
        keras.config.set_floatx(floatx)
        tf.random.set_seed(seed)
        if operation_seeds is not None:  # setting the seed starts their sequence anew
            context.context()._rng.setstate(operation_seeds)
        random.setstate(python_state)
        np.random.set_state(numpy_state)
        if deterministic and not was_deterministic:
            tf_config.disable_op_determinism()


def _get(name: str) -> Any:
    return global_state.get_global_attribute(name)
