"""Nothing that training changes is missing from a checkpoint, or it is refused by its name."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_trainer
from places import ROOT
from regression import Regression, X, Y, data

from framework import Data
from framework.errors import UserError
from tasks.cifar100_subclass import Cifar100Subclass
from tasks.mnist_sequential import MnistSequential
from tasks.mnist_subclass import MnistSubclass
from tasks.mnist_vae import MnistVae


class Slotted:
    __slots__ = ("inner",)

    def __init__(self, variable: Any) -> None:
        self.inner = deque([variable])


class Holder:
    def __init__(self, variable: Any) -> None:
        self.inner = {"deep": [variable]}


class Raw(keras.Model):
    """A plain variable on a model, which Keras does not track."""

    def __init__(self) -> None:
        super().__init__()
        self.probability = tf.Variable(0.0, trainable=False)
        self.dense = keras.layers.Dense(1)

    def call(self, x: Any) -> Any:
        return self.dense(x)


def _built(layer: keras.Layer) -> keras.Layer:
    layer.build((None, 3))
    return layer


PLACES: dict[str, tuple[Any, Any]] = {
    "variable": (lambda: tf.Variable(0.0), lambda p: p),
    "keras variable": (lambda: keras.Variable(0.0), lambda p: p),
    "object": (lambda: Holder(tf.Variable(0.0)), lambda p: p.inner["deep"][0]),
    "slots": (lambda: Slotted(tf.Variable(0.0)), lambda p: p.inner[0]),
    "layer": (lambda: _built(keras.layers.Dense(1)), lambda p: p.bias),
    "layers": (lambda: {"a": [_built(keras.layers.Dense(1))]}, lambda p: p["a"][0].bias),
    "model": (lambda: Raw(), lambda p: p.probability),
}


IN_GRAPH = [(place, "graph") for place in PLACES]
ELSEWHERE = [(p, e) for p in ("object", "layer") for e in ("step_xla", "loop_xla", "eager")]


@pytest.mark.parametrize(("place", "engine"), IN_GRAPH + ELSEWHERE)
def test_what_a_step_assigns_survives_wherever_it_is_kept(
    place: str, engine: str, tmp_path: Path
) -> None:
    make, get = PLACES[place]

    class Counting(Regression):
        def build_model(self) -> Any:
            self.place = make()
            return super().build_model()

        def train_step(self, batch: Any) -> Any:
            variable = get(self.place)
            variable.assign_add(tf.ones(variable.shape))
            return super().train_step(batch)

    for steps in (3, 5):
        task = Counting()
        make_trainer(max_steps=steps, engine=engine, run_dir=tmp_path).fit(task, data())
        assert np.ravel(get(task.place).numpy()) == steps


def test_a_plain_variable_on_a_model_of_build_model_survives(tmp_path: Path) -> None:
    class Augmented(Regression):
        def build_model(self) -> Any:
            return Raw()

        def train_step(self, batch: Any) -> Any:
            self.model.probability.assign_add(1.0)
            return super().train_step(batch)

    for steps in (3, 5):
        task = Augmented()
        make_trainer(max_steps=steps, run_dir=tmp_path).fit(task, data())
        assert float(task.model.probability) == steps


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize("step", ["train_step", "eval_step"])
def test_what_cannot_be_found_is_refused_by_its_name(
    step: str, engine: str, tmp_path: Path
) -> None:
    hidden = tf.Variable(0.0, name="hidden_counter")

    def assigning(task: Any, batch: Any) -> Any:
        hidden.assign_add(1.0)
        return getattr(Regression, step)(task, batch)

    kind = type("Hiding", (Regression,), {step: assigning})
    sets = Data(train=(X, Y), val=(X, Y), batch_size=8)
    with pytest.raises(UserError, match="hidden_counter"):
        make_trainer(max_steps=2, engine=engine, run_dir=tmp_path / "run").fit(kind(), sets)
    if engine == "graph":  # where steps run in Python, only the first one tells
        assert not (tmp_path / "run").exists()
    make_trainer(max_steps=2, engine=engine).fit(
        kind(), sets
    )  # nothing is lost where nothing is kept


def test_what_a_later_step_in_python_assigns_is_refused_too(tmp_path: Path) -> None:
    hidden = tf.Variable(0.0, name="late_counter")

    class Late(Regression):
        def train_step(self, batch: Any) -> Any:
            tf.Variable(0.0).assign(1.0)  # gone after the step, so that nothing is lost
            if int(self.global_step) == 2:
                hidden.assign_add(1.0)
            return super().train_step(batch)

    make_trainer(max_steps=2, engine="eager", run_dir=tmp_path / "a").fit(Late(), data())
    with pytest.raises(UserError, match="late_counter"):
        make_trainer(max_steps=4, engine="eager", run_dir=tmp_path / "b").fit(Late(), data())


def test_a_table_that_a_step_writes_is_refused_by_its_name(tmp_path: Path) -> None:
    class Table(Regression):
        def build_model(self) -> Any:
            self.seen = tf.lookup.experimental.MutableHashTable(
                tf.int64, tf.float32, 0.0, name="seen_rows"
            )
            return super().build_model()

        def train_step(self, batch: Any) -> Any:
            self.seen.insert(tf.constant([1], tf.int64), [1.0])
            return super().train_step(batch)

    with pytest.raises(UserError, match="MutableHashTable seen_rows"):
        make_trainer(max_steps=2, run_dir=tmp_path / "run").fit(Table(), data())


def test_a_variable_that_cannot_be_put_back_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Regression):
        def on_fit_start(self) -> None:
            self.late = tf.Variable(0.0)

    for steps in (1, 2):
        with caplog.at_level(logging.WARNING, "framework"):
            make_trainer(max_steps=steps, run_dir=tmp_path).fit(Late(), data())
    (told,) = [r.getMessage() for r in caplog.records if "start again" in r.getMessage()]
    assert "late/0" in told


def test_weights_that_the_loss_depends_on_but_nobody_trains_are_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Headed(Regression):
        frozen = False

        def build_model(self) -> Any:
            self.head = keras.layers.Dense(1)
            self.head.build((None, 1))
            self.head.trainable = not self.frozen
            self.counter = tf.Variable(0.0)  # assigned, not learned
            return super().build_model()

        def train_step(self, batch: Any) -> Any:
            self.counter.assign_add(1.0)
            return tf.reduce_mean((self.head(self.model(batch[0])) - batch[1]) ** 2)

    with caplog.at_level(logging.WARNING, "framework"):
        make_trainer(max_steps=2).fit(Headed(), data())
    (told,) = [r.getMessage() for r in caplog.records if "not trained" in r.getMessage()]
    assert "head/0, head/1" in told
    assert "counter" not in told
    caplog.clear()
    with caplog.at_level(logging.WARNING, "framework"):
        make_trainer(max_steps=2).fit(type("Frozen", (Headed,), {"frozen": True})(), data())
    assert not [r for r in caplog.records if "not trained" in r.getMessage()]


class Buffered(Regression):
    """Has state of its own on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer: deque[int] = deque(maxlen=3)
        self.random = np.random.default_rng(0)

    def on_epoch_end(self) -> None:
        self.buffer.append(int(self.random.integers(1000)))

    def state_dict(self) -> dict[str, Any]:
        return {"buffer": self.buffer, "random": self.random.bit_generator.state}

    def load_state_dict(self, state: Any) -> None:
        self.buffer = state["buffer"]
        self.random.bit_generator.state = state["random"]


def test_a_tasks_host_state_is_in_checkpoints(tmp_path: Path) -> None:
    whole, first, second = Buffered(), Buffered(), Buffered()
    make_trainer(max_epochs=5, run_dir=tmp_path / "whole").fit(whole, data())
    make_trainer(max_epochs=2, run_dir=tmp_path / "run").fit(first, data())
    make_trainer(max_epochs=5, run_dir=tmp_path / "run").fit(second, data())
    assert second.buffer == whole.buffer == deque(_integers(5)[-3:], maxlen=3)
    judged = Buffered()
    make_trainer(run_dir=tmp_path / "run").test(judged, data(), checkpoint="last")
    assert judged.buffer == whole.buffer


def _integers(count: int) -> list[int]:
    draw = np.random.default_rng(0)
    return [int(draw.integers(1000)) for _ in range(count)]


def test_host_state_that_no_checkpoint_can_hold_is_refused(tmp_path: Path) -> None:
    kind = type("Bad", (Regression,), {"state_dict": lambda self: {"thing": object()}})
    with pytest.raises(UserError, match="state_dict returned a object"):
        make_trainer(max_epochs=1, run_dir=tmp_path / "run").fit(kind(), data())


NETWORK = SimpleNamespace(
    conv_filters=[4, 8], kernel_size=3, pool_size=2, dense_units=8, activation="relu", classes=10
)
LESSON = {
    MnistSubclass: (28, 28, 1),
    Cifar100Subclass: (32, 32, 3),
    MnistSequential: (28, 28, 1),
}


def test_the_lessons_networks_are_saved_by_keras_for_any_batch(tmp_path: Path) -> None:
    x = {}
    for kind, shape in LESSON.items():
        images = np.random.RandomState(0).rand(20, *shape).astype("float32")
        labels = np.zeros(20, "int64")
        loss = keras.losses.SparseCategoricalCrossentropy()
        task = kind(model=NETWORK, loss=loss, optimizer="sgd")
        saving = keras.callbacks.ModelCheckpoint(str(tmp_path / f"{kind.__name__}.keras"))
        run = make_trainer(max_epochs=1, callbacks=[saving])
        run.fit(task, Data(train=(images, labels), batch_size=8))
        assert not any(8 in each for each in _build_shapes(task.model))
        x[f"{kind.__name__}_x"] = images[:3]
        x[f"{kind.__name__}_y"] = task.model(images[:3]).numpy()
    vae = MnistVae(model=SimpleNamespace(**vars(NETWORK), filters=[2, 4], latent=3)).build_model()
    vae.save(tmp_path / "Vae.keras")
    given = np.random.RandomState(1).rand(3, 28, 28, 1), np.random.RandomState(2).rand(3, 3)
    x |= {"Vae_x": given[0], "Vae_n": given[1], "Vae_y": vae(list(given)).numpy()}
    np.savez(tmp_path / "pairs.npz", **x)
    loading = """
import sys, keras, numpy as np
import tasks.cifar100_subclass, tasks.mnist_subclass, tasks.mnist_vae
pairs = np.load(sys.argv[1] + "/pairs.npz")
for name in sys.argv[2:]:
    model = keras.saving.load_model(f"{sys.argv[1]}/{name}.keras")
    x = pairs[name + "_x"]
    x = [x, pairs["Vae_n"]] if name == "Vae" else x
    np.testing.assert_allclose(model(x), pairs[name + "_y"], atol=1e-6)
"""
    names = [*(kind.__name__ for kind in LESSON), "Vae"]
    subprocess.run([sys.executable, "-c", loading, str(tmp_path), *names], cwd=ROOT, check=True)


def _build_shapes(model: keras.Model) -> list[tuple[Any, ...]]:
    found = []
    for layer in model._flatten_layers():
        config = layer.get_build_config() or {}
        found += [tuple(config.get("input_shape") or ())[:1]]
    return found


def test_a_step_that_wants_to_know_its_rows_leaves_the_model_open_to_any(tmp_path: Path) -> None:
    class Fixed(Regression):
        def build_model(self) -> Any:
            inner = keras.Sequential([keras.layers.Dense(2), keras.layers.BatchNormalization()])
            return keras.Sequential([inner, keras.layers.Dense(1)])

        def train_step(self, batch: Any) -> Any:
            x = tf.reshape(batch[0], (batch[0].shape[0], -1))  # two unknown sizes if that is
            return tf.reduce_mean((self.model(x, training=True) - batch[1]) ** 2)

    task = Fixed()
    make_trainer(max_steps=3).fit(task, data())
    assert task.model.input_shape == task.model.layers[0].input_shape == (None, 3)
    assert not any(8 in each for each in _build_shapes(task.model))
    task.model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    kernel, bias, *norm, last, shift = [w.numpy() for w in task.model.weights]
    gamma, beta, mean, variance = norm
    hidden = (X @ kernel + bias - mean) / np.sqrt(variance + 1e-3) * gamma + beta
    np.testing.assert_allclose(
        loaded.predict(X, batch_size=7, verbose=0), hidden @ last + shift, rtol=1e-4, atol=1e-4
    )


def test_a_model_that_keras_cannot_save_is_refused_before_a_file_is_made(tmp_path: Path) -> None:
    class Own(keras.Model):
        def __init__(self, units: int) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(units)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    kind = type("Unsaved", (Regression,), {"build_model": lambda self: Own(1)})
    saving = keras.callbacks.ModelCheckpoint(str(tmp_path / "model.keras"))
    with pytest.raises(UserError, match="Keras cannot save a Own") as caught:
        make_trainer(max_epochs=1, callbacks=[saving]).fit(kind(), data())
    assert "get_config" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
