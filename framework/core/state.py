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
    """Assign what `variables_state` returned, having checked that it fits.

    Raises:
        UserError: The state belongs to other variables.
    """
    check_variables(variables, state, what)
    for variable, value in zip(variables, state.values(), strict=True):
        variable.assign(value)


def check_variables(variables: Sequence[Any], state: Mapping[str, Any], what: str) -> None:
    """Refuse a state that is not one of so many variables of these shapes.

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


LOADED = "loaded"


def load_fitting(
    variables: Sequence[Any], state: Mapping[str, Any], of: str
) -> list[tuple[str, str]]:
    """Assign those values of a state whose variable's path and shape are the same.

    Args:
        variables: A model's.
        state: What `variables_state` returned for the same or another model.
        of: The model's name, for the report.

    Returns:
        (variable, `loaded` or why not), for each variable and then for what is left of the state.
    """
    left = {key.partition(":")[2]: value for key, value in state.items()}
    report = []
    for variable in variables:
        value = left.pop(variable.path, None)
        if value is None:
            outcome = "not in the checkpoint"
        elif np.shape(value) != tuple(variable.shape):
            outcome = f"is {list(variable.shape)}, there {list(np.shape(value))}"
        else:
            variable.assign(value)
            outcome = LOADED
        report.append((f"{of}: {variable.path}", outcome))
    return report + [(f"{of}: {path}", "only in the checkpoint") for path in left]


def check_same_data(
    then: Mapping[str, Any], now: Mapping[str, Any], *, batch: int, own: bool
) -> None:
    """Refuse to go on in the middle of an epoch, or of a run, with a training set of other length.

    Args:
        then: The `rows` and the `steps` of an epoch when the checkpoint was saved; None unknown.
        now: The same of the present data.
        batch: Batches of its epoch that the checkpoint has behind it.
        own: It is the run's own checkpoint, not one to start anew from.

    Raises:
        UserError: They differ, or the epoch is over before that batch.
    """
    for name, unit, looked_at in (("rows", "rows", own), ("steps", "batches in an epoch", own)):
        before, after = then.get(name), now.get(name)
        if (looked_at or batch) and None not in (before, after) and before != after:
            raise UserError(
                f"the run was begun with {before:,} training {unit}, now there are {after:,}",
                where="data.train",
                fix="Continue with the same data and limits, or begin anew in another run_dir.",
            )
    steps = now.get("steps")
    if steps is not None and batch > steps:
        raise UserError(
            f"the checkpoint is {batch:,} batches into an epoch that has only {steps:,} now",
            where="data.train",
            fix="Continue with the same data and limits, or begin anew in another run_dir.",
        )


def _key(index: int, variable: Any) -> str:
    return f"{index:04d}:{variable.path}"
