"""Variables are saved and loaded by name, shape and number."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from framework import UserError
from framework.core.state import load_variables, variables_state


def test_variables_of_another_model_are_refused() -> None:
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    state = variables_state(layer.variables)
    other = keras.layers.Dense(2)
    other.build((None, 4))
    with pytest.raises(UserError, match=r"has shape \(4, 2\), in the checkpoint .* \(3, 2\)"):
        load_variables(other.variables, state, "model")
    with pytest.raises(UserError, match="has 2 variables for the model, which has 1"):
        load_variables(layer.variables[:1], state, "model")
    layer.set_weights([np.ones((3, 2)), np.ones(2)])
    load_variables(layer.variables, state, "model")
    assert layer.get_weights()[0].tobytes() == next(iter(state.values())).tobytes()
