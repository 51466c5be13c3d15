"""The state of layers outside their variables: vocabularies, adapted statistics, custom state."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np

from framework.core.codec import hold, release, same
from framework.core.state import State
from framework.errors import UserError
from framework.text.escape import without_colours

_VARIABLES = ("save_own_variables", "load_own_variables")
_ASSETS = ("save_assets", "load_assets")
_BUILD = ("get_build_config", "build_from_config")
_SHAPES = ("input_shape", "shapes_dict")  # depend on the batch that a layer was built with
Saved = Mapping[str, Any]  # layers and other objects that Keras saves in this way, by path


def layer_state(layers: Saved) -> State:
    """Return the state that layers save with their own methods, by path.

    Example:
        >>> layer_state({"head": keras.layers.Dense(1)})   # it has only variables
        {}
    """
    state: State = {}
    for key, layer in _with_state(layers).items():
        try:
            state[key] = _state(layer)
        except Exception as error:
            kind = type(layer).__name__
            raise UserError(
                f"{key}, a {kind}, cannot save its state: {without_colours(error)}",
                where=f"{kind}.save_own_variables, save_assets or get_build_config",
                fix="Save arrays, files, and a config of numbers, text and lists, or train without "
                "checkpoints: trainer.enable_checkpointing=false.",
            ) from error
    return state


def load_layer_state(layers: Saved, state: Mapping[str, Any]) -> None:
    """Restore what `layer_state` returned, after the layers' variables were assigned.

    Functions must be traced again afterwards, since traces have tables and statistics as
    constants.
    """
    for key, layer in _with_state(layers).items():
        if key not in state:
            raise UserError(
                f"the checkpoint has no state for {key}, a {type(layer).__name__} with state "
                "outside its variables",
                where=type(layer).__name__,
                fix="Use the task that the checkpoint was saved from.",
            )
        try:
            if not same(_state_if_any(layer), {**state[key], "name": layer.name}):
                _load(layer, state[key])
            elif _own(layer, "finalize_state"):
                layer.finalize_state()
        except Exception as error:
            raise UserError(
                f"{key}, a {type(layer).__name__}, cannot load its state from the checkpoint: "
                f"{without_colours(error)}",
                where=f"{type(layer).__name__}.load_own_variables",
                fix="Use the task that the checkpoint was saved from.",
            ) from error


def load_fitting_layers(layers: Saved, state: Mapping[str, Any]) -> None:
    """Load matching state of another model into layers, by name, and apply their variables."""
    of_models = [value for key, value in state.items() if key.startswith("model/")]
    by_name = {value["name"]: value for value in of_models}
    for layer in _with_state(layers).values():
        own = _state(layer)
        try:
            _load(layer, by_name.get(layer.name, own))
        except Exception:  # of a different shape or type
            _load(layer, own)


def constants(layers: Saved) -> State:
    """Return what traced functions have as constants: layers' state, and values from it."""
    return {
        key: {
            "state": _state_if_any(layer),
            "values": [np.array(_array(v)) for v in getattr(layer, "variables", ())],
        }
        for key, layer in _with_state(layers).items()
    }


def _with_state(layers: Saved) -> dict[str, Any]:
    kept = (*_VARIABLES, *_ASSETS, *_BUILD, "finalize_state")
    return {
        key: layer
        for key, layer in layers.items()
        if isinstance(layer, keras.layers.Discretization) or _own(layer, *kept)
    }


def _own(layer: Any, *methods: str) -> bool:
    """Return whether a layer saves more than variables; Keras's common layers only rename them."""
    found = [getattr(type(layer), method, None) for method in methods]
    modules = [getattr(each, "__module__", "keras.") for each in found]
    special = "keras.src.layers.preprocessing"
    return any(m.startswith(special) or not m.startswith("keras.") for m in modules)


def _state(layer: Any) -> State:
    state: State = {"name": layer.name}
    if _own(layer, *_BUILD):
        state["build"] = _build_config(layer)
    if _own(layer, *_VARIABLES):
        store: dict[str, Any] = {}
        layer.save_own_variables(store)
        state["own"] = {key: np.array(_array(value)) for key, value in store.items()}
    if _own(layer, *_ASSETS):
        with tempfile.TemporaryDirectory() as name:
            layer.save_assets(name)
            files = sorted(path for path in Path(name).rglob("*") if path.is_file())
            state["assets"] = {
                str(path.relative_to(name)): np.frombuffer(path.read_bytes(), np.uint8)
                for path in files
            }
    if isinstance(layer, keras.layers.Discretization):  # Keras has these only in its config
        bins = layer.bin_boundaries
        state["bins"] = None if bins is None else [float(edge) for edge in bins]
        state["summary"] = None if layer.summary is None else np.array(layer.summary)
    return state


def _state_if_any(layer: Any) -> State | None:
    """Return the state of a layer, or None if it cannot save before it is adapted."""
    with suppress(Exception):
        return _state(layer)
    return None


def _build_config(layer: Any) -> Any:
    config = layer.get_build_config() or {}
    return hold({key: value for key, value in config.items() if key not in _SHAPES})


def _load(layer: Any, state: Mapping[str, Any]) -> None:
    build = _build_config(layer) if _own(layer, *_BUILD) else None
    if not same(state.get("build"), build):
        before = [id(variable) for variable in layer.variables]
        layer.build_from_config({**(layer.get_build_config() or {}), **release(state["build"])})
        if [id(variable) for variable in layer.variables] != before:
            raise ValueError("its build_from_config creates new variables")
    if "own" in state:
        layer.load_own_variables(dict(state["own"]))
    if state.get("assets"):
        _load_assets(layer, state["assets"])
    if "bins" in state:
        layer.bin_boundaries, layer.summary = state["bins"], state["summary"]
    if _own(layer, "finalize_state"):
        layer.finalize_state()


def _load_assets(layer: Any, assets: Mapping[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as name:
        for file, content in assets.items():
            path = Path(name, file)
            if not path.resolve().is_relative_to(Path(name).resolve()):
                raise ValueError(f"{file} is not a file's name")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(np.asarray(content, np.uint8).tobytes())
        lookup = getattr(layer, "_lookup_layer", layer)
        if getattr(lookup, "output_mode", None) == "tf_idf":
            # Keras saves padded weights, which it does not accept together with the vocabulary.
            words = Path(name, "vocabulary.txt").read_text().rstrip("\n").split("\n")
            lookup.idf_weights_const = lookup.idf_weights_const[: len(words)]
        layer.load_assets(name)


def _array(value: Any) -> Any:
    return value.numpy() if hasattr(value, "numpy") else value
