"""The table of a model: its layers, shapes and counts."""

from __future__ import annotations

import io
import re

import pytest
from fake_run import FakeTrainer
from rich.console import Console

from framework.callbacks.model_summary import ModelSummary


def summary(model, max_rows: int = 40, **options) -> list[str]:
    out = io.StringIO()
    callback = ModelSummary(max_rows, console=Console(file=out, width=60))
    callback.on_fit_start(FakeTrainer(model=model, **options))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def cells(lines: list[str]) -> list[list[str]]:
    return [re.split(r"\s{3,}", line) for line in lines]


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


def test_a_sequential_model(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(16, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="a_rather_long_name_for_a_layer_that_only_flattens"),
            layers.Dense(10, name="[b]dense"),
        ],
        name="net",
    )
    model.build((None, 8, 8, 3))
    lines = summary(model)
    assert lines[0] == "net: Sequential"
    assert cells(lines[2:6]) == [
        ["conv", "Conv2D", "(None, 6, 6, 16)", str(3 * 3 * 3 * 16 + 16)],
        ["norm", "BatchNormalization", "(None, 6, 6, 16)", str(4 * 16)],
        ["a_rather_long_name_for_a_layer_that_only_flattens", "Flatten", "(None, 576)", "0"],
        ["[b]dense", "Dense", "(None, 10)", "5,770"],
    ]
    # 448 + 64 + 5,770, of which the norm's two moving averages are not trained.
    assert lines[7:] == [
        "model    Sequential, 6,282 parameters (25.1 kB), 6,250 trainable",
        "data     a stream of 100 steps",
        "runs on  CPU:0, float32, engine graph",
    ]


def test_a_functional_model_with_a_model_inside(keras):
    layers = keras.layers
    inner = keras.Sequential(
        [layers.Dense(4, name="in1"), layers.Dense(4, name="in2")], name="inner"
    )
    x = keras.Input((3,), name="x")
    heads = {"a": layers.Dense(2, name="head_a")(inner(x)), "b": inner(x)}
    lines = summary(keras.Model(x, heads, name="outer"))
    assert lines[0] == "outer: functional model"
    assert cells(lines[2:7]) == [
        ["x", "InputLayer", "(None, 3)", "0"],
        ["inner", "Sequential", "(None, 4)", "36"],
        ["  in1", "Dense", "(None, 4)", "16"],
        ["  in2", "Dense", "(None, 4)", "20"],
        ["head_a", "Dense", "(None, 2)", "10"],
    ]
    assert lines[8] == "model    functional model, 46 parameters (184 bytes), 46 trainable"


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called")
def test_a_subclass_model_tells_what_its_layers_know(keras):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(5, name="dense")
            self.drop = keras.layers.Dropout(0.5, name="drop")
            self.unused = keras.layers.Dense(7, name="unused")

        def call(self, x):
            return self.drop(self.dense(x))

    model = Net()
    model(keras.KerasTensor((None, 3)))
    rows = {row[0]: row[1:] for row in cells(summary(model))}
    assert rows["dense"] == ["Dense", "(None, 5)", "20"]
    assert rows["drop"][:2] == ["Dropout", "(None, 5)"]
    assert rows["unused"][:2] == ["Dense", "?"]
    assert not any("call" in vars(layer) for layer in model.layers)
    assert rows["unused"] == ["Dense", "?", "0"]


def test_models_by_name_share_weights_that_count_once(keras):
    shared = keras.layers.Dense(4, name="shared")
    models = {}
    for name in ("generator", "critic"):
        x = keras.Input((3,))
        models[name] = keras.Model(x, keras.layers.Dense(1, dtype="float64")(shared(x)))
    lines = summary(models, precision="float64")
    assert "generator: functional model" in lines
    assert "critic: functional model" in lines
    # 16 shared 4-byte weights, and two heads of 5 with 8 bytes each.
    assert lines[-3] == "model    2 models, 26 parameters (144 bytes), 26 trainable"
    assert lines[-1] == "runs on  CPU:0, float64, engine graph"


def test_a_long_model_is_cut_in_the_middle(keras):
    stack = [keras.Input((2,)), *(keras.layers.Dense(2, name=f"d{i}") for i in range(100))]
    lines = summary(keras.Sequential(stack), max_rows=10)
    names = [row[0] for row in cells(lines[2:12])]
    assert names == ["d0", "d1", "d2", "d3", "d4", "d5", "... 91 more", "d97", "d98", "d99"]
    assert lines[8].split()[-1] == str(91 * 6)


def test_a_model_that_is_not_built_yet_is_no_error(keras):
    lines = summary(keras.Sequential([keras.layers.Dense(3, name="later")]))
    assert cells(lines)[2] == ["later", "Dense", "?", "0"]


class TestSubclassed:
    """No shape is unknown, however a model is called."""

    def rows(self, model, inputs) -> dict[str, str]:
        model(inputs)
        lines = summary(model)
        end = lines.index("")
        return {row[0].strip(): row[2] for row in cells(lines[2:end])}

    @pytest.mark.parametrize("kind", ["dict", "list"])
    def test_several_inputs(self, keras, kind):
        class Net(keras.Model):
            def __init__(self):
                super().__init__()
                self.pool = keras.layers.GlobalAveragePooling1D(name="pool")
                self.join = keras.layers.Concatenate(name="join")

            def call(self, x):
                a, b = (x["a"], x["b"]) if isinstance(x, dict) else x
                return self.join([self.pool(a), b])

        a, b = keras.ops.zeros((2, 5, 3)), keras.ops.zeros((2, 4))
        found = self.rows(Net(), {"a": a, "b": b} if kind == "dict" else [a, b])
        assert found == {"pool": "(2, 3)", "join": "(2, 7)"}

    def test_integer_input_and_a_model_within_a_model(self, keras):
        class Inner(keras.Model):
            def __init__(self):
                super().__init__(name="inner")
                self.embed = keras.layers.Embedding(10, 4, name="embed")
                self.act = keras.layers.ReLU(name="act")

            def call(self, x):
                return self.act(self.act(self.embed(x)))

        class Outer(keras.Model):
            def __init__(self):
                super().__init__()
                self.inner, self.flat = Inner(), keras.layers.Flatten(name="flat")

            def call(self, x):
                import tensorflow as tf

                return self.flat(self.inner(tf.bitwise.bitwise_and(x, 7)))

        found = self.rows(Outer(), keras.ops.zeros((2, 6), "int32"))
        assert found == {
            "inner": "(2, 6, 4)",
            "embed": "(2, 6, 4)",
            "act": "(2, 6, 4)",
            "flat": "(2, 24)",
        }
