"""Errors of the user's code name the way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from framework.core.user_code import user_code
from framework.errors import UserError


@pytest.mark.parametrize(
    ("code", "way"),
    [
        (lambda t: float(t), "TensorFlow operations"),
        (lambda t: np.asarray(t), "TensorFlow operations"),
        (lambda t: t.item(), "TensorFlow operations"),
        (lambda t: t / None, "max_steps"),
    ],
)
def test_what_needs_values_names_the_way_out(code: Any, way: str) -> None:
    with pytest.raises(UserError) as error, user_code("T.train_step"):
        tf.function(code, autograph=False).get_concrete_function(tf.TensorSpec([]))
    assert way in error.value.fix


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (AttributeError("'SymbolicTensor' object has no attribute 'numpy'"), "engine=eager"),
        (ValueError("None values not supported."), "total_steps"),
    ],
)
def test_errors_name_the_way_out(error: Exception, fix: str) -> None:
    with pytest.raises(UserError, match=fix), user_code("T.train_step"):
        raise error


def test_names_in_bold_are_shown_plain() -> None:
    with pytest.raises(UserError) as caught, user_code("T.train_step"):
        raise ValueError("Exception in \x1b[1mDense.call()\x1b[0m.")
    assert "in Dense.call()." in str(caught.value)
