"""The state contract: whatever changes during training, as one tree of arrays and JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from framework.errors import UserError

State = dict[str, Any]  # JSON values, NumPy arrays, and further States


class Stateful(Protocol):
    """Anything whose state must survive a restart."""

    def state(self) -> State:
        """Return it: JSON values, NumPy arrays, and dicts of them."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Take it back."""


def variables_state(variables: Sequence[Any]) -> State:
    """Return the values of Keras variables, keyed by their order and path.

    Example:
        >>> list(variables_state(keras.layers.Dense(1, name="d").build((None, 2)) or []))
        []

    Args:
        variables: Keras variables; their order is part of the key, since paths can repeat.
    """
    return {_key(i, v): np.asarray(v.numpy()) for i, v in enumerate(variables)}


def load_variables(variables: Sequence[Any], state: Mapping[str, Any], what: str) -> None:
    """Assign what `variables_state` returned, checking every name's place and every shape.

    Raises:
        UserError: The state belongs to other variables.
    """
    if len(variables) != len(state):
        raise UserError(
            f"the checkpoint has {len(state)} variables of the {what}, which has {len(variables)}",
            where=what,
            fix="Use the model and the optimizer that the checkpoint was saved from.",
        )
    for variable, (key, value) in zip(variables, state.items(), strict=True):
        if tuple(variable.shape) != np.shape(value):
            raise UserError(
                f"{variable.path} has shape {tuple(variable.shape)}, "
                f"in the checkpoint ({key}) {np.shape(value)}",
                where=what,
                fix="Use the model and the optimizer that the checkpoint was saved from.",
            )
    for variable, value in zip(variables, state.values(), strict=True):
        variable.assign(value)


def _key(index: int, variable: Any) -> str:
    return f"{index:04d}:{variable.path}"
