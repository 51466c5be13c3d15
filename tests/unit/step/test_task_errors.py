"""A mistake in a task is one UserError that says what, where, and the way out."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import CLASSES, FEATURES, Net, blobs, cross_entropy, dense, fitted, make_trainer, noisy

from framework import Data, Task, UserError
from framework.sources.open import open_train

DATA = Data(train=blobs(20), val=blobs(12, 1), batch_size=8)


def failing(task: Any, data: Data = DATA, **options: Any) -> UserError:
    with pytest.raises(UserError) as error:
        make_trainer(**options).fit(task, data)
    assert len(str(error.value).splitlines()) <= 20
    assert "Traceback" not in str(error.value)
    return error.value


def line_of(function: Any, text: str) -> str:
    """`file:line` of a line of a function's source, to compare a message with."""
    lines, first = inspect.getsourcelines(function)
    offset = next(i for i, line in enumerate(lines) if text in line)
    return f"{__file__.rsplit('/', 1)[-1]}:{first + offset}"


@pytest.mark.parametrize(
    ("model", "what"),
    [
        (None, "build_model returned a NoneType, not a keras.Model"),
        (3, "build_model returned a int, not a keras.Model"),
        (keras.Sequential, "build_model returned a type, not a keras.Model"),
        ({}, "build_model returned no model"),
        (
            {"a": keras.Sequential(), "b": "x"},
            "build_model returned a str for 'b', not a keras.Model",
        ),
    ],
)
def test_build_model_returns_no_model(model: Any, what: str) -> None:
    error = failing(Net(lambda: model))
    assert error.what == what
    assert error.where == "Net.build_model"


def test_build_model_raises() -> None:
    def build() -> Any:
        return keras.layers.Dense(-1)

    error = failing(Net(build))
    assert "units" in error.what
    assert line_of(build, "Dense(-1)") in str(error.where)


def net_returning(value: Any, **attributes: Any) -> Net:
    def train_step(self: Net, batch: Any) -> Any:
        loss = Net.train_step(self, batch)
        return value(loss) if callable(value) else value

    return type("Returns", (Net,), {"train_step": train_step, **attributes})()


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize(
    ("value", "what", "fix"),
    [
        (None, "train_step returned None", "apply_gradients"),
        (
            lambda loss: tf.stack([loss] * 3),
            r"train_step returned a float32 tensor of shape (3,)",
            "reduce_mean",
        ),
        (
            lambda loss: (loss, {"a": loss}),
            "train_step returned a tuple, not a scalar loss",
            "self.log",
        ),
        (lambda loss: {"loss": loss}, "train_step returned a dict, not a scalar loss", "self.log"),
        (7, "train_step returned a int32 tensor of shape (), not a scalar loss", None),
        ("loss", "train_step returned a string tensor", None),
    ],
)
def test_train_step_returns_no_scalar(value: Any, what: str, fix: str | None, engine: str) -> None:
    error = failing(net_returning(value), engine=engine)
    assert error.what.startswith(what)
    assert error.where == "Returns.train_step"
    assert fix is None or fix in str(error.fix)


def test_a_manual_step_that_returns_a_value() -> None:
    error = failing(net_returning(lambda loss: loss, automatic_optimization=False))
    assert error.what == "train_step returned a value, but automatic_optimization is False"


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_a_manual_step_that_updates_nothing(engine: str) -> None:
    error = failing(net_returning(None, automatic_optimization=False), engine=engine)
    assert error.what == "train_step changed no weights"
    assert "self.apply_gradients(tape, loss)" in str(error.fix)


@pytest.mark.parametrize("unbuilt", [False, True])
def test_an_exception_in_train_step_points_at_its_line(unbuilt: bool) -> None:
    class Typo(Net):
        def train_step(self, batch: Any) -> Any:
            loss = super().train_step(batch)
            return loss + self.no_such_thing

    def build() -> Any:
        first = [] if unbuilt else [keras.Input((FEATURES,))]
        return keras.Sequential([*first, keras.layers.Dense(CLASSES)])

    error = failing(Typo(build))
    assert error.what == "AttributeError: 'Typo' object has no attribute 'no_such_thing'"
    assert line_of(Typo.train_step, "no_such_thing") in str(error.where)
    assert "Typo.train_step" in str(error.where)
    assert "(float32 [8, 6], int64 [8])" in str(error.where)


@pytest.mark.parametrize("step", ["train_step", "eval_step"])
def test_a_batch_of_another_structure(step: str) -> None:
    def unpack(self: Net, batch: Any) -> Any:
        x, y, w = batch
        return x + y + w

    task = type("Unpacks", (Net,), {step: unpack})()
    error = failing(task)
    assert "unpack" in error.what
    assert f"Unpacks.{step}" in str(error.where)
    assert line_of(unpack, "x, y, w = batch") in str(error.where)


def test_images_of_another_shape_than_the_networks() -> None:
    def build() -> Any:
        return keras.Sequential([keras.Input((FEATURES + 1,)), keras.layers.Dense(CLASSES)])

    error = failing(Net(build))
    assert "incompatible" in error.what
    assert "(float32 [12, 6], int64 [12])" in str(error.where)  # of validation, traced first
    assert "helpers.py:" in str(error.where)


def test_log_inside_a_branch_of_a_compiled_step() -> None:
    class Branches(Net):
        def train_step(self, batch: Any) -> Any:
            loss = super().train_step(batch)
            if loss > 1.0:
                self.log("high", loss * 2.0)
            return loss

    error = failing(Branches())
    assert "Log and return after it, not inside it" in str(error.fix)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_eval_step_returns_junk(engine: str) -> None:
    class Junk(Net):
        def eval_step(self, batch: Any) -> Any:
            return 3.0

    error = failing(Junk(), engine=engine)
    assert error.what == "eval_step returned a float"
    assert "self.log" in str(error.fix)
    with pytest.raises(UserError, match="eval_step returned a float"):
        make_trainer(engine=engine).validate(Junk(), DATA)


def test_a_loss_that_depends_on_no_weight() -> None:
    class Constant(Net):
        def train_step(self, batch: Any) -> Any:
            self.model(batch[0])
            return tf.reduce_mean(batch[0])

    assert failing(Constant()).what == "the loss does not depend on any weight of the model"


def test_apply_gradients_where_it_does_not_belong() -> None:
    class Automatic(Net):
        def train_step(self, batch: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = super().train_step(batch)
            self.apply_gradients(tape, loss)
            return loss

    class InEval(Automatic):
        automatic_optimization = False

        def train_step(self, batch: Any) -> None:
            super().train_step(batch)

        def eval_step(self, batch: Any) -> None:
            super().train_step(batch)

    assert failing(Automatic()).what == "apply_gradients was called in automatic optimization"
    assert failing(InEval()).what == "apply_gradients was called outside train_step"
    with pytest.raises(UserError, match="only while a Trainer runs"):
        InEval().apply_gradients(None, None)


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize("automatic", [True, False])
def test_an_update_that_the_trainer_would_not_see(automatic: bool, engine: str) -> None:
    class Own(Net):
        automatic_optimization = automatic

        def train_step(self, batch: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = super().train_step(batch)
            weights = self.model.trainable_variables
            optimizer = self.trainer.optimizers.get("optimizer")
            if optimizer is not None:  # there is none yet when the model is built
                optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return loss if automatic else None

    error = failing(Own(), engine=engine)
    assert error.what.startswith("train_step calls the optimizer's own apply_gradients or apply")
    assert "self.minimize(loss_fn)" in str(error.fix)


def test_no_data_or_something_else() -> None:
    with pytest.raises(UserError, match="Net has no data where a Data is expected"):
        make_trainer().fit(Net())
    with pytest.raises(UserError, match="Net has a tuple where a Data is expected"):
        make_trainer().fit(Net(), blobs(8))
    with pytest.raises(UserError, match="there is no test data"):
        make_trainer().test(Net(), DATA)
    with pytest.raises(UserError, match="there is no val data"):
        make_trainer().validate(Net(), Data(train=blobs(8)))


def test_what_is_no_task() -> None:
    with pytest.raises(UserError, match="is not a Task"):
        make_trainer().fit(Net, DATA)


def test_a_missing_abstract_method_is_named() -> None:
    class Half(Task):
        def build_model(self) -> Any:
            return None

    with pytest.raises(TypeError, match="train_step"):
        Half()


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize("label", [CLASSES, 77, -1])
@pytest.mark.parametrize("part", ["train", "val"])
def test_a_label_outside_the_networks_classes(part: str, label: int, engine: str) -> None:
    x, y = blobs(20)
    y[13] = label
    sets = {"train": blobs(20), "val": blobs(20), part: (x, y)}
    task = Net()
    error = failing(task, Data(**sets, batch_size=8), engine=engine)
    assert error.what == f"a label is {label}, but the network has 3 classes, 0 to 2"
    assert line_of(cross_entropy, "sparse_categorical_crossentropy").split(":")[1] in str(
        error.where
    )
    assert "one output for each class" in str(error.fix)


def test_another_failed_check_is_left_as_it_is() -> None:
    class Asserts(Net):
        def train_step(self, batch: Any) -> Any:
            tf.debugging.assert_less(tf.reduce_max(batch[0]), -100.0, message="my own check")
            return super().train_step(batch)

    with pytest.raises(tf.errors.InvalidArgumentError, match="my own check"):
        make_trainer().fit(Asserts(), DATA)


def test_a_model_that_is_never_called_is_never_built() -> None:
    class Idle(Net):
        def train_step(self, batch: Any) -> Any:
            return tf.reduce_mean(batch[0])

    unbuilt = Idle(lambda: keras.Sequential([keras.layers.Dense(3)]))
    error = failing(unbuilt)
    assert error.what in (
        "train_step never calls the model",
        "the loss does not depend on any weight of the model",
    )
    assert "train_step" in str(error.where)

    class Blind(Net):
        def eval_step(self, batch: Any) -> None:
            self.log("x", tf.reduce_mean(batch[0]))

    with pytest.raises(UserError, match="eval_step never calls the model") as caught:
        make_trainer().validate(Blind(lambda: keras.Sequential([keras.layers.Dense(3)])), DATA)
    assert "keras.Input" in str(caught.value.fix)


@pytest.mark.parametrize("optimizer", [lambda: "adam", lambda: 3, lambda: None])
def test_an_optimizer_that_is_none(optimizer: Any) -> None:
    class Own(Net):
        def configure_optimizers(self) -> Any:
            return optimizer()

    error = failing(Own())
    assert error.what.startswith("configure_optimizers returned a ")
    assert error.where == "Own.configure_optimizers"
    assert "optimizer" in failing(Net(optimizer="adamm")).what


def test_predict_step_raises() -> None:
    class Bad(Net):
        def predict_step(self, batch: Any) -> Any:
            return self.model(batch["image"])

    with pytest.raises(UserError) as error:
        make_trainer().predict(Bad(), Data(predict=blobs(8)))
    assert "Bad.predict_step" in str(error.value.where)
    assert line_of(Bad.predict_step, 'batch["image"]') in str(error.value.where)


@pytest.mark.parametrize("build", [dense, noisy])
@pytest.mark.parametrize("option", ["map", "augment"])
def test_map_and_augment_raise(option: str, build: Any) -> None:
    def scale(batch: Any, *_: Any) -> Any:
        return batch["x"] / 255

    error = failing(Net(build), Data(train=blobs(8), **{option: scale}))
    assert "tuple indices must be integers" in error.what
    assert line_of(scale, "/ 255") in str(error.where)


def test_nothing_is_written_by_a_run_that_never_began(tmp_path: Any) -> None:
    run_dir = tmp_path / "run"
    failing(net_returning(None), run_dir=run_dir)
    assert not run_dir.exists()
    assert open_train(DATA, seed=0).steps == 3
    assert np.isfinite(fitted(Net(), DATA).metrics["train/loss"])
