"""Layers to freeze are found by name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import keras
import pytest
from helpers import FEATURES

from framework.callbacks.freeze import Freeze


def nested() -> keras.Model:
    inner = [keras.Input((FEATURES,)), *(keras.layers.Dense(4, name=name) for name in "ab")]
    backbone = keras.Sequential(inner, name="backbone")
    return keras.Sequential([keras.Input((FEATURES,)), backbone, keras.layers.Dense(3, name="c")])


def trained(models: Any) -> set[str]:
    """The weights that would be trained, by model, layer and name."""
    pairs = models.items() if isinstance(models, dict) else [("", models)]
    return {
        f"{name} {weight.path.split('/')[-2]} {weight.name}".strip()
        for name, model in pairs
        for weight in model.trainable_variables
    }


def at_setup(freeze: Freeze, models: Any) -> set[str]:
    """What is frozen by the hook, whose counterpart puts everything back."""
    before = trained(models)
    run: Any = SimpleNamespace(stage="fit", task=SimpleNamespace(model=models))
    freeze.on_setup(run)
    found = before - trained(models)
    freeze.on_fit_end(run)
    assert trained(models) == before
    return found


@pytest.mark.parametrize(
    ("several", "options", "frozen"),
    [
        (False, {"layers": "backbone"}, {"a", "b"}),
        (False, {"layers": "backbone/*"}, {"a", "b"}),
        (False, {"layers": "backbone/a"}, {"a"}),
        (False, {"layers": ["b", "c"]}, {"b", "c"}),
        (False, {"layers": "[ab]"}, {"a", "b"}),
        (True, {"layers": "two"}, {"two a", "two b", "two c"}),
        (True, {"layers": "*/c"}, {"one c", "two c"}),
        (True, {"layers": ["one/backbone", "two/b"]}, {"one a", "one b", "two b"}),
        (True, {"layers": "a", "model": "one"}, {"one a"}),
    ],
)
def test_layers_are_found_by_name(several: bool, options: dict[str, Any], frozen: set[str]) -> None:
    found = at_setup(Freeze(**options), {"one": nested(), "two": nested()} if several else nested())
    assert found == {f"{layer} {weight}" for layer in frozen for weight in ("kernel", "bias")}


def test_what_was_frozen_by_hand_stays_frozen() -> None:
    model = nested()
    model.get_layer("backbone").get_layer("a").trainable = False
    model.get_layer("backbone").get_layer("b").kernel.trainable = False
    assert at_setup(Freeze("backbone", until=1), model) == {"b bias"}
