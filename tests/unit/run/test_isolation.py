"""What a run sets in the process is put back."""

from __future__ import annotations

import keras
import pytest
import tensorflow as tf
from tensorflow.python.framework import config as tf_config

from framework.run.process_settings import isolated


@pytest.mark.parametrize("was", [False, True])
def test_determinism_is_put_back_to_what_it_was(was: bool) -> None:
    if was:
        tf.config.experimental.enable_op_determinism()
    try:
        with isolated("float32", deterministic=True):
            assert tf_config.is_op_determinism_enabled()
        assert tf_config.is_op_determinism_enabled() is was
        with isolated("float32", deterministic=False):
            pass
        assert tf_config.is_op_determinism_enabled() is was
    finally:
        tf_config.disable_op_determinism()


def test_the_body_of_isolated_starts_with_names_and_a_policy_of_its_own() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with isolated("float32"):
            assert keras.config.dtype_policy().name == "float32"
            inside = keras.layers.Dense(1).name
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        keras.layers.Dense(1)
        with isolated("float32"):
            assert keras.layers.Dense(1).name == inside == "dense"
    finally:
        keras.config.set_dtype_policy("float32")
