"""The state protocol: everything that changes in training, as a tree of arrays and JSON values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import keras
import numpy as np

from framework.errors import UserError

State = dict[str, Any]  # JSON values, NumPy arrays, and further States


class Stateful(Protocol):
    """An object with state that checkpoints must save."""

    def state(self) -> State:
        """Return the state: JSON values, NumPy arrays, and dicts of them."""

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore the state."""


def assign(variable: Any, value: Any) -> None:
    """Give a variable a value; `keras.Variable.assign` would hold it twice more, and be slower."""
    plain = variable.value if isinstance(variable, keras.Variable) else variable
    plain.assign(value, read_value=False)


def variables_state(variables: Sequence[Any]) -> State:
    """Return the values of Keras variables, keyed by position and path, since paths can repeat."""
    return {f"{i:04d}:{v.path}": np.asarray(v.numpy()) for i, v in enumerate(variables)}


def load_variables(variables: Sequence[Any], state: Mapping[str, Any], what: str) -> None:
    """Assign what `variables_state` returned, after checking that it fits."""
    check_variables(variables, state, what)
    for variable, value in zip(variables, state.values(), strict=True):
        assign(variable, value)


def check_variables(variables: Sequence[Any], state: Mapping[str, Any], what: str) -> None:
    """Refuse a state that does not fit these variables in number and shape."""
    fix = "Use the model and the optimizer that the checkpoint was saved from."
    count, saved = len(variables), len(state)
    if count != saved:
        unlike = f"the checkpoint has {saved} variables for the {what}, which has {count}"
        raise UserError(unlike, where=what, fix=fix)
    for variable, (key, value) in zip(variables, state.items(), strict=True):
        shape, there = tuple(variable.shape), np.shape(value)
        if shape != there:
            unlike = f"{variable.path} has shape {shape}, in the checkpoint ({key}) {there}"
            raise UserError(unlike, where=what, fix=fix)


LOADED = "loaded"


def load_fitting(
    variables: Sequence[Any], state: Mapping[str, Any], of: str
) -> list[tuple[str, str]]:
    """Assign the values of a state to the variables of the model `of` with the same path and shape.

    Returns:
        (variable, `loaded` or the reason why not), for each variable and then for the rest of the
        state.
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
            assign(variable, value)
            outcome = LOADED
        report.append((f"{of}: {variable.path}", outcome))
    return report + [(f"{of}: {path}", "only in the checkpoint") for path in left]


def check_same_data(
    then: Mapping[str, Any], now: Mapping[str, Any], *, batch: int, own: bool
) -> None:
    """Refuse to resume in mid-epoch, or a run, with a training set of another length.

    Args:
        then: The `rows` and the `steps` per epoch when the checkpoint was saved; None if unknown.
        now: The same values for the current data.
        batch: The batches of the epoch that were done at the checkpoint.
        own: Whether it is the run's own checkpoint, not one that a new run starts from.
    """
    fix = "Continue with the same data and limits, or start a new run elsewhere."
    for name, unit in (("rows", "rows"), ("steps", "batches in an epoch")):
        before, after = then.get(name), now.get(name)
        if (own or batch) and None not in (before, after) and before != after:
            what = (
                f"the run was started with {before:,} training {unit}, but now there are {after:,}"
            )
            raise UserError(what, where="data.train", fix=fix)
    steps = now.get("steps")
    if steps is not None and batch > steps:
        what = f"the checkpoint is {batch:,} batches into an epoch that now has only {steps:,}"
        raise UserError(what, where="data.train", fix=fix)
