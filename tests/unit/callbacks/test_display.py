"""Shapes, whole lines and the order of metrics, as they are displayed."""

from __future__ import annotations

import io
import time

import keras
import pytest
from rich.console import Console

from framework.callbacks.live_line import Display, in_order
from framework.callbacks.shapes import output_shapes


class Pools(keras.Model):
    """Pooling, dropout, a model within, and a branch, none of which keeps its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = keras.layers.Conv2D(4, 3, name="conv")
        self.pool = keras.layers.MaxPooling2D(name="pool")
        self.drop = keras.layers.Dropout(0.5, name="drop")
        self.inner = keras.Sequential(
            [keras.layers.Conv2D(2, 1), keras.layers.GlobalMaxPooling2D()]
        )
        self.join = keras.layers.Concatenate(name="join")
        self.unused = keras.layers.Dense(7, name="unused")

    def call(self, x: object, training: bool = False) -> object:
        x = self.drop(self.pool(self.conv(x)), training=training)
        return self.join([self.inner(x), self.inner(x)])


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called")
def test_shapes_of_layers_that_keep_none() -> None:
    model = Pools()
    model(keras.KerasTensor((None, 12, 12, 3)))
    weights = model.get_weights()
    shapes = output_shapes(model)
    names = {layer.name: shapes[id(layer)] for layer in model.layers}
    assert names["pool"] == names["drop"] == "(None, 5, 5, 4)"
    assert names["join"] == "(None, 4)"
    assert names["unused"] == "?"
    assert shapes[id(model.inner.layers[1])] == "(None, 2)"
    assert all((a == b).all() for a, b in zip(weights, model.get_weights(), strict=True))
    assert not any("call" in vars(layer) for layer in model.layers)


def test_a_file_gets_whole_lines() -> None:
    stream = io.StringIO()
    Display(Console(file=stream, width=20), False, time.monotonic).print(["part"] * 20)
    assert stream.getvalue() == "  ".join(["part"] * 20) + "\n"


def test_metrics_have_one_order() -> None:
    known = ["train/b", "train/loss", "train/b_epoch", "val/z", "val/loss", "val/b"]
    assert list(in_order(dict.fromkeys(["val/z", "val/b", "val/loss"], 0.0), known)) == [
        "val/loss",
        "val/b",
        "val/z",
    ]
    assert list(in_order({"train/b": 0.0, "train/loss": 0.0}, known)) == ["train/loss", "train/b"]
