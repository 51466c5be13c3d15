"""What layers keep beside their variables is in checkpoints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_trainer
from regression import Regression, X, data

from framework import Data
from framework.errors import UserError
from framework.loop.compiled import Loop

WORDS = np.array([["red"], ["green"], ["blue"], ["red"]] * 10)


def adapted(layer: keras.Layer, x: Any, shape: Any = (None, 3)) -> Any:
    """A function that makes the layer, adapted or not."""

    def make(wanted: bool) -> keras.Layer:
        made = type(layer).from_config(layer.get_config())
        if wanted:
            made.adapt(x)
        else:
            made.build(shape)
        return made

    return make


class Shift(keras.layers.Layer):
    """Keeps an array of its own that is no variable."""

    def __init__(self, by: float = 0.0, **options: Any) -> None:
        super().__init__(**options)
        self.by = np.float32(by)

    def call(self, x: Any) -> Any:
        return x + self.by

    def save_own_variables(self, store: Any) -> None:
        store["by"] = self.by

    def load_own_variables(self, store: Any) -> None:
        self.by = np.asarray(store["by"])[()]


class Inside(keras.Model):
    """A model that holds another layer, as users write them."""

    def __init__(self, layer: keras.Layer) -> None:
        super().__init__()
        self.parts = [layer]

    def build(self, shape: Any) -> None:
        self.built = True

    def call(self, x: Any) -> Any:
        return self.parts[0](x)


class Scale(keras.layers.Layer):
    """Keeps what it was adapted to where Keras keeps shapes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.by = 1.0

    def call(self, x: Any) -> Any:
        return x / self.by

    def get_build_config(self) -> Any:
        return {**(super().get_build_config() or {}), "by": self.by}

    def build_from_config(self, config: Any) -> None:
        self.by, self.built = config["by"], True


class Constant(keras.layers.Layer):
    """Computes a constant from a variable, as Normalization does."""

    def build(self, shape: Any) -> None:
        self.spread = self.add_weight(shape=(), initializer="ones", trainable=False)
        self.finalize_state()

    def finalize_state(self) -> None:
        self.by = float(self.spread)

    def call(self, x: Any) -> Any:
        return x / self.by


def _constant(by: float) -> Constant:
    layer = Constant()
    layer.build(None)
    layer.spread.assign(by)
    layer.finalize_state()
    layer.built = True
    return layer


def _scale(by: float) -> Scale:
    layer = Scale()
    layer.by = by
    return layer


NORMAL = adapted(keras.layers.Normalization(), X)
LAYERS: dict[str, Any] = {
    "normalization": lambda wanted: [NORMAL(wanted)],
    "inside a model": lambda wanted: [Inside(NORMAL(wanted))],
    "bins": lambda wanted: [
        keras.layers.Discretization(num_bins=4)
        if not wanted
        else _with_bins(keras.layers.Discretization(num_bins=4))
    ],
    "a build config": lambda wanted: [_scale(4.0 if wanted else 1.0)],
    "a constant": lambda wanted: [_constant(4.0 if wanted else 1.0)],
    "a layer's own": lambda wanted: [Shift(4.0 if wanted else 0.0)],
}


def _with_bins(layer: keras.layers.Discretization) -> keras.layers.Discretization:
    layer.adapt(X)
    return layer


def kind_of(name: str) -> type[Regression]:
    return type("Kind", (Regression,), {"layers": staticmethod(LAYERS[name])})


@pytest.mark.parametrize("name", LAYERS)
def test_a_layers_state_that_is_no_variable_is_in_checkpoints(name: str, tmp_path: Path) -> None:
    kind = kind_of(name)
    whole = kind()
    make_trainer(max_steps=8, run_dir=tmp_path / "whole").fit(whole, data())
    make_trainer(max_steps=4, run_dir=tmp_path / "run").fit(kind(), data())
    # The continued run has what the checkpoint holds, not what it was made with.
    part = kind(adapted=False)
    make_trainer(max_steps=8, run_dir=tmp_path / "run").fit(part, data())
    for left, right in zip(whole.model.get_weights(), part.model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    want = whole.model.predict(X, verbose=0)  # Keras's own
    judge = make_trainer(run_dir=tmp_path / "run")
    got = judge.predict(kind(False), Data(predict=X), checkpoint="last")
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_what_is_the_same_in_the_checkpoint_is_not_compiled_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = kind_of("normalization")
    make_trainer(max_steps=4, run_dir=tmp_path / "run").fit(kind(), data())
    traced = []
    own = Loop.trace
    monkeypatch.setattr(Loop, "trace", lambda self, *a: (traced.append(self), own(self, *a)))
    for adapted, steps in ((True, 8), (False, 12)):
        traced.clear()
        make_trainer(max_steps=steps, run_dir=tmp_path / "run").fit(kind(adapted), data())
        assert len(traced) == len(set(map(id, traced)))


def test_weights_only_take_in_what_was_adapted(tmp_path: Path) -> None:
    kind = kind_of("normalization")
    first = kind()
    make_trainer(max_steps=4, run_dir=tmp_path / "a").fit(first, data())
    task = kind(False)
    make_trainer(max_steps=1, run_dir=tmp_path / "b").fit(
        task, data(), checkpoint=str(tmp_path / "a"), weights_only=True
    )
    mean = task.model.layers[0].mean
    np.testing.assert_allclose(np.ravel(mean), X.mean(0), rtol=1e-5)


class Kept(Regression):
    """Has its layers before Keras starts to count names again, and some in objects of its own."""

    def __init__(self, adapted: bool = True) -> None:
        super().__init__(adapted)
        self.first = keras.layers.Normalization()
        self.first.adapt(X) if adapted else self.first.build((None, 3))
        self.second = SimpleNamespace(inner=[Shift(2.0 * adapted)])

    def build_model(self) -> Any:
        dense = keras.layers.Dense(1, kernel_initializer="zeros")
        return keras.Sequential([keras.Input((3,)), self.first, dense])

    def train_step(self, batch: Any) -> Any:
        y = self.model(self.second.inner[0](batch[0]), training=True)
        return tf.reduce_mean((y - batch[1]) ** 2)

    def predict_step(self, x: Any) -> Any:
        return self.model(self.second.inner[0](x))


def test_layers_are_found_wherever_they_are_and_whatever_keras_calls_them(tmp_path: Path) -> None:
    whole = Kept()
    make_trainer(max_steps=8, run_dir=tmp_path / "whole").fit(whole, data())
    make_trainer(max_steps=4, run_dir=tmp_path / "run").fit(Kept(), data())
    part = Kept(adapted=False)
    assert part.first.name != whole.first.name
    make_trainer(max_steps=8, run_dir=tmp_path / "run").fit(part, data())
    for left, right in zip(whole.model.get_weights(), part.model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    kernel, bias = whole.model.layers[-1].get_weights()
    want = (X + 2.0 - X.mean(0)) / X.std(0) @ kernel + bias
    judge = make_trainer(run_dir=tmp_path / "run")
    got = judge.predict(Kept(False), Data(predict=X), checkpoint="last")
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_a_copy_of_ema_of_has_what_the_model_was_adapted_to(tmp_path: Path) -> None:
    class Followed(Regression):
        layers = staticmethod(LAYERS["normalization"])

        def build_model(self) -> Any:
            model = super().build_model()
            self.teacher = self.ema_of(model, 0.5)
            return model

        def predict_step(self, x: Any) -> Any:
            return self.teacher(x)

    task = Followed()
    make_trainer(max_steps=3, run_dir=tmp_path).fit(task, data())
    kernel, bias = task.teacher.layers[-1].get_weights()
    got = make_trainer(run_dir=tmp_path).predict(
        Followed(False), Data(predict=X), checkpoint="last"
    )
    want = (X - X.mean(0)) / X.std(0) @ kernel + bias
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_a_layer_of_which_the_checkpoint_holds_nothing_is_refused(tmp_path: Path) -> None:
    make_trainer(max_steps=1, run_dir=tmp_path).fit(Regression(), data())
    task = type("Other", (Regression,), {"layers": staticmethod(LAYERS["a layer's own"])})(False)
    with pytest.raises(UserError, match="has no state for model/model/2, a Shift"):
        make_trainer(run_dir=tmp_path).predict(task, Data(predict=X), checkpoint="last")


def test_a_layer_that_cannot_save_is_refused_before_the_first_step(tmp_path: Path) -> None:
    class Odd(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return x

        def get_build_config(self) -> Any:
            return {"thing": object()}

    kind = type("Odd", (Regression,), {"layers": staticmethod(lambda adapted: [Odd()])})
    with pytest.raises(UserError, match="a Odd, cannot save its state: a object"):
        make_trainer(max_steps=1, run_dir=tmp_path / "run").fit(kind(), data())
    assert not (tmp_path / "run").exists()


def test_weights_only_take_nothing_of_an_optimizer(tmp_path: Path) -> None:
    class Own(keras.optimizers.SGD):
        host = 1.0

        def save_own_variables(self, store: Any) -> None:
            store["host"] = np.float32(self.host)

        def load_own_variables(self, store: Any) -> None:
            self.host = float(store["host"])

    for name, begin in (
        ("a", {}),
        ("b", {"checkpoint": str(tmp_path / "a"), "weights_only": True}),
    ):
        own = Own(1e-4)
        own.host = 5.0 if name == "a" else 2.0
        kind = type("Kind", (Regression,), {"configure_optimizers": lambda self, own=own: own})
        make_trainer(max_steps=1, run_dir=tmp_path / name).fit(kind(), data(), **begin)
    assert own.host == 2.0


def test_an_optimizers_own_is_in_checkpoints(tmp_path: Path) -> None:
    class Counting(keras.optimizers.SGD):
        host = 0.0

        def save_own_variables(self, store: Any) -> None:
            store["host"] = np.float32(self.host)

        def load_own_variables(self, store: Any) -> None:
            self.host = float(store["host"])

    for expected in (0.0, 7.0):
        own = Counting(1e-4)
        kind = type("Own", (Regression,), {"configure_optimizers": lambda self, own=own: own})
        task, steps = kind(), 2 if expected else 1
        trainer = make_trainer(max_steps=steps, run_dir=tmp_path)
        task.on_fit_start = lambda own=own, x=expected: _equal(own.host, x)  # type: ignore
        task.on_epoch_start = lambda own=own: setattr(own, "host", 7.0)  # type: ignore
        trainer.fit(task, data())


def _equal(left: Any, right: Any) -> None:
    assert left == right


class Text(Regression):
    """A vocabulary, which layers keep in tables."""

    make: Any = staticmethod(lambda: keras.layers.StringLookup())

    def build_model(self) -> Any:
        lookup = self.make()
        if self.adapted:
            lookup.adapt(WORDS)
        embedding = keras.layers.Embedding(8, 1, embeddings_initializer="ones")
        inputs = keras.Input((1,), dtype="string")
        return keras.Model(inputs, keras.layers.Flatten()(embedding(lookup(inputs))))


MAKE_LOOKUP: dict[str, Any] = {
    "StringLookup": lambda: keras.layers.StringLookup(),
    "TextVectorization": lambda: keras.layers.TextVectorization(output_sequence_length=1),
}


@pytest.mark.parametrize("name", MAKE_LOOKUP)
def test_a_vocabulary_is_in_checkpoints(name: str, tmp_path: Path) -> None:
    kind = type("Kind", (Text,), {"make": staticmethod(MAKE_LOOKUP[name])})
    whole = kind()
    make_trainer(max_steps=8, run_dir=tmp_path / "whole").fit(whole, data(WORDS))
    make_trainer(max_steps=4, run_dir=tmp_path / "run").fit(kind(), data(WORDS))
    part = kind(adapted=False)
    make_trainer(max_steps=8, run_dir=tmp_path / "run").fit(part, data(WORDS))
    for left, right in zip(whole.model.get_weights(), part.model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_weights_of_rare_words_are_in_checkpoints(tmp_path: Path) -> None:
    class Rare(Regression):
        def build_model(self) -> Any:
            words = keras.layers.TextVectorization(
                max_tokens=9, output_mode="tf_idf", pad_to_max_tokens=True
            )
            if self.adapted:
                words.adapt(WORDS)
            inputs = keras.Input((1,), dtype="string")
            return keras.Model(inputs, keras.layers.Dense(1)(words(inputs)))

    whole, part = Rare(), Rare(False)
    make_trainer(max_steps=8, run_dir=tmp_path / "whole").fit(whole, data(WORDS))
    make_trainer(max_steps=4, run_dir=tmp_path / "run").fit(Rare(), data(WORDS))
    make_trainer(max_steps=8, run_dir=tmp_path / "run").fit(part, data(WORDS))
    for left, right in zip(whole.model.get_weights(), part.model.get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)
    want = whole.model(tf.constant(WORDS)).numpy()
    judge = make_trainer(run_dir=tmp_path / "run")
    got = judge.predict(Rare(False), Data(predict=WORDS), checkpoint="last")
    np.testing.assert_allclose(got, want, rtol=1e-6)
