"""What layers keep beside their variables: vocabularies, adapted statistics, a user's own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from framework.checkpoint.state import State
from framework.errors import UserError

_VARIABLES = ("save_own_variables", "load_own_variables")
_ASSETS = ("save_assets", "load_assets")


def layer_state(layers: Iterable[keras.Layer]) -> State:
    """Return what layers save in ways of their own, by their place and name.

    Example:
        >>> layer_state([keras.layers.Dense(1)])   # variables are all that it has
        {}

    Args:
        layers: All layers of a task, in an order that does not change.
    """
    return {key: _state(layer) for key, layer in _with_state(layers).items()}


def load_layer_state(layers: Iterable[keras.Layer], state: Mapping[str, Any]) -> None:
    """Have layers take back what `layer_state` returned, after their variables were assigned.

    Functions that were traced before have to be traced again: tables and statistics are constants
    to them.

    Raises:
        UserError: A layer does not take what is there.
    """
    for key, layer in _with_state(layers).items():
        if key not in state:
            continue
        try:
            _load(layer, state[key])
        except Exception as error:
            raise UserError(
                f"the layer {layer.name} does not take its state from the checkpoint: {error}",
                where=f"{type(layer).__name__}.load_own_variables",
                fix="Use the model that the checkpoint was saved from.",
            ) from error


def load_fitting_layers(layers: Iterable[keras.Layer], state: Mapping[str, Any]) -> None:
    """Have layers take what fits of another model's state, by name, and take in their variables."""
    by_name = {key.partition(":")[2]: value for key, value in state.items()}
    for layer in _with_state(layers).values():
        own = _state(layer)
        try:
            _load(layer, by_name.get(layer.name, own))
        except Exception:  # of another shape or kind
            _load(layer, own)


def keep_state(layers: Iterable[keras.Layer]) -> bool:
    """Tell whether any of these layers keeps more than variables."""
    return bool(_with_state(layers))


def flat_layers(roots: Iterable[Any]) -> list[keras.Layer]:
    """Return the layers among values, and all layers in them, each once."""
    found: dict[int, keras.Layer] = {}
    for root in roots:
        if isinstance(root, keras.Layer):
            found |= {id(each): each for each in root._flatten_layers()}
    return list(found.values())


def values_of(value: Any) -> list[Any]:
    """Return the values in a nest of lists, tuples and dicts."""
    if isinstance(value, Mapping):
        return [each for inner in value.values() for each in values_of(inner)]
    if isinstance(value, (list, tuple)):
        return [each for inner in value for each in values_of(inner)]
    return [value]


def _with_state(layers: Iterable[keras.Layer]) -> dict[str, keras.Layer]:
    return {
        f"{number:04d}:{layer.name}": layer
        for number, layer in enumerate(layers)
        if isinstance(layer, keras.layers.Discretization)
        or any(_own(layer, name) for name in (*_VARIABLES, *_ASSETS))
    }


def _own(layer: keras.Layer, method: str) -> bool:
    """Tell whether a layer saves more than variables; Keras's common layers only rename those."""
    module = getattr(getattr(type(layer), method, None), "__module__", "keras.")
    return module.startswith("keras.src.layers.preprocessing") or not module.startswith("keras.")


def _state(layer: keras.Layer) -> State:
    state: State = {}
    if any(_own(layer, name) for name in _VARIABLES):
        store: dict[str, Any] = {}
        layer.save_own_variables(store)
        state["own"] = {key: np.array(_array(value)) for key, value in store.items()}
    if any(_own(layer, name) for name in _ASSETS):
        with tempfile.TemporaryDirectory() as name:
            layer.save_assets(name)
            files = sorted(path for path in Path(name).rglob("*") if path.is_file())
            state["assets"] = {
                str(path.relative_to(name)): np.frombuffer(path.read_bytes(), np.uint8)
                for path in files
            }
    if isinstance(layer, keras.layers.Discretization):  # which Keras keeps in its config alone
        bins = layer.bin_boundaries
        state["bins"] = None if bins is None else [float(edge) for edge in bins]
        state["summary"] = None if layer.summary is None else np.array(layer.summary)
    return state


def _load(layer: keras.Layer, state: Mapping[str, Any]) -> None:
    if "own" in state:
        layer.load_own_variables(dict(state["own"]))
    if state.get("assets"):
        with tempfile.TemporaryDirectory() as name:
            for file, content in state["assets"].items():
                path = Path(name, file)
                if not path.resolve().is_relative_to(Path(name).resolve()):
                    raise ValueError(f"{file} is not a file's name")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(np.asarray(content, np.uint8).tobytes())
            layer.load_assets(name)
    if "bins" in state:
        layer.bin_boundaries, layer.summary = state["bins"], state["summary"]


def _array(value: Any) -> Any:
    return value.numpy() if hasattr(value, "numpy") else value
