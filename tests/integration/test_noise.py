"""Random numbers that are the same in every engine, and evaluations that move none of training."""

from __future__ import annotations

import random as python_random
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import LogRows, make_trainer

from framework import Data, Task, UserError, random

SEED = tf.constant([3, 5], tf.int64)
DRAWS: dict[str, Callable[[Any], Any]] = {}
DRAWS["normal"] = lambda seed: random.normal([500, 3], seed)
DRAWS["normal scaled"] = lambda seed: random.normal([501], seed, 1.5, 0.3)
DRAWS["normal half"] = lambda seed: random.normal([99], seed, dtype=tf.bfloat16)
DRAWS["truncated"] = lambda seed: random.truncated_normal([501], seed)
DRAWS["uniform"] = lambda seed: random.uniform([501], seed)
DRAWS["uniform between"] = lambda seed: random.uniform([501], seed, -1.0, 3.0)
DRAWS["uniform bfloat16"] = lambda seed: random.uniform([501], seed, dtype=tf.bfloat16)
DRAWS["uniform float16"] = lambda seed: random.uniform([501], seed, dtype=tf.float16)
DRAWS["uniform float64"] = lambda seed: random.uniform([501], seed, dtype=tf.float64)
DRAWS["uniform float64 between"] = lambda seed: random.uniform([501], seed, -1.7, 3.3, tf.float64)
DRAWS["bernoulli"] = lambda seed: random.bernoulli([501], seed, 0.3)
DRAWS["randint"] = lambda seed: random.randint([501], seed, -5, 1000)
DRAWS["shuffle"] = lambda seed: random.shuffle(tf.range(50.0), seed)
DRAWS["fold"] = lambda seed: random.fold(seed, 1, 2, 3)


@pytest.mark.parametrize("name", DRAWS)
def test_eager_graph_and_xla_draw_the_same_bits(name: str) -> None:
    draw = DRAWS[name]
    eager = np.asarray(draw(SEED)).tobytes()
    for compiled in (None, True):
        function = tf.function(draw, autograph=False, jit_compile=compiled)
        assert np.asarray(function(SEED)).tobytes() == eager


def test_distributions_are_what_they_are_called() -> None:
    z = random.normal([400_000], SEED, 2.0, 3.0).numpy().astype("f8")
    quantiles = np.linspace(0.001, 0.999, 200)
    wanted = [NormalDist(2.0, 3.0).inv_cdf(q) for q in quantiles]
    np.testing.assert_allclose(np.quantile(z, quantiles), wanted, atol=0.15)
    assert abs(z.mean() - 2.0) < 5 * 3 / 400_000**0.5
    t = random.truncated_normal([200_000], SEED).numpy()
    assert 1.99 < np.abs(t).max() <= 2.0
    assert t.var() == pytest.approx(0.7737, abs=0.01)  # 1 - 2 * 2 * phi(2) / (Phi(2) - Phi(-2))
    u = random.uniform([200_000], SEED, -1.0, 3.0).numpy()
    assert u.min() >= -1.0
    assert u.max() < 3.0
    assert u.var() == pytest.approx(16 / 12, rel=0.01)
    for dtype in (tf.bfloat16, tf.float16, tf.float64):
        assert float(tf.reduce_max(random.uniform([50_000], SEED, dtype=dtype))) < 1.0
    counts = np.bincount(random.randint([100_000], SEED, 0, 10).numpy(), minlength=10)
    assert np.abs(counts - 10_000).max() < 5 * 10_000**0.5
    assert np.mean(random.bernoulli([100_000], SEED, 0.3)) == pytest.approx(0.3, abs=0.01)
    assert sorted(random.permutation(100, SEED).numpy()) == list(range(100))
    first = [int(random.permutation(4, [i, 0])[0]) for i in range(400)]
    assert min(np.bincount(first)) > 60


def network() -> keras.Model:
    zeros = keras.initializers.Zeros()
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, kernel_initializer=zeros)])


class Rows(Task):
    """Logs the noise of every row by the row's number."""

    def build_model(self) -> Any:
        return network()

    def noise_of(self, batch: Any, stage: str) -> None:
        x, row = batch
        noise = random.normal([tf.shape(x)[0]], self.step_seed())
        other = random.normal([tf.shape(x)[0]], self.step_seed(1))
        for i in range(8):
            mine = row == i
            weight = tf.reduce_sum(tf.cast(mine, tf.float32))
            self.log(f"row{i}", tf.reduce_sum(tf.where(mine, noise, 0.0)), weight=weight)
            self.log(f"other{i}", tf.reduce_sum(tf.where(mine, other, 0.0)), weight=weight)

    def train_step(self, batch: Any) -> Any:
        self.noise_of(batch, "train")
        return tf.reduce_mean(self.model(batch[0], training=True) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.noise_of(batch, "val")

    def predict_step(self, batch: Any) -> Any:
        return random.normal([tf.shape(batch[0])[0]], self.step_seed())


X, NUMBERS = np.ones((8, 3), "f4"), np.arange(8)


@pytest.mark.parametrize(
    "options",
    [{}, {"devices": 2}, {"devices": 4}, {"accumulate": 2}, {"accumulate": 4, "devices": 2}],
)
def test_no_two_rows_share_their_noise(options: dict[str, int]) -> None:
    size = 8 // options.get("accumulate", 1)
    data = Data(train=(X, NUMBERS), val=(X, NUMBERS), batch_size=size, eval_batch_size=2)
    trainer = make_trainer(max_steps=2, log_every="1st", val_every="2st", **options)
    seen = []

    trainer.fit(Rows(optimizer="sgd"), data)
    for stage in ("train", "val"):
        for name in ("row", "other"):
            seen += [trainer.metrics[f"{stage}/{name}{i}"] for i in range(8)]
    assert len(set(seen)) == 32


def test_seeds_differ_by_step_and_evaluation_batch_and_repeat_by_evaluation() -> None:
    data = Data(train=(X, NUMBERS), val=(X, NUMBERS), batch_size=8, eval_batch_size=2)
    trainer = make_trainer(max_steps=3)
    task = Rows(optimizer="sgd")
    trainer.fit(task, data)
    one, two = trainer.validate(task, data), trainer.validate(task, data)
    assert one == two
    predicted = trainer.predict(task, Data(predict=(X, NUMBERS), eval_batch_size=2))
    again = trainer.predict(task, Data(predict=(X, NUMBERS), eval_batch_size=2))
    np.testing.assert_array_equal(predicted, again)
    assert len(set(predicted.tolist())) == 8


def test_sets_of_one_evaluation_have_noise_of_their_own() -> None:
    sets = {"a": (X, NUMBERS), "b": (X, NUMBERS)}
    task, trainer = Rows(optimizer="sgd"), make_trainer(max_steps=1)
    found = trainer.fit(task, Data(train=(X, NUMBERS), val=sets, batch_size=8))
    assert all(found[f"val/a/row{i}"] != found[f"val/b/row{i}"] for i in range(8))
    predicted = trainer.predict(task, Data(predict=sets))
    assert not np.intersect1d(predicted["a"], predicted["b"]).size


def test_engines_see_the_same_noise() -> None:
    found = []
    for engine in ("eager", "graph", "step_xla", "loop_xla"):
        trainer = make_trainer(max_steps=1, engine=engine)
        trainer.fit(Rows(optimizer="sgd"), Data(train=(X, NUMBERS), batch_size=8, shuffle=False))
        found.append([trainer.metrics[f"train/row{i}"] for i in range(8)])
    assert found[0] == found[1] == found[2] == found[3]


# ---- evaluation moves nothing


class Drawing(Task):
    kind = "own"

    def build_model(self) -> Any:
        self.own = keras.random.SeedGenerator(3)
        self.tensorflow = tf.random.Generator.from_seed(4)
        return network()

    def draw(self, shape: Any) -> Any:
        if self.kind == "tensorflow":
            return self.tensorflow.normal(shape)
        return keras.random.normal(shape, seed=self.own if self.kind == "own" else None)

    def train_step(self, batch: Any) -> Any:
        x = batch[0] + self.draw(tf.shape(batch[0]))
        return tf.reduce_mean((self.model(x, training=True) - batch[1]) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("drawn", self.draw((2,)))


Z = np.random.RandomState(0).randn(64, 3).astype("f4")
DRAWN = Data(train=(Z, Z[:, :1]), val=(Z, Z[:, :1]), test=(Z, Z[:, :1]), batch_size=8)


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize("kind", ["own", "global", "tensorflow"])
def test_when_to_validate_changes_no_weight(kind: str, engine: str) -> None:
    weights, drawn = [], set()
    for options in ({"val_every": None}, {"val_every": "1st", "sanity_val_steps": 1}):
        task = type("Kind", (Drawing,), {"kind": kind})(optimizer="sgd")
        trainer = make_trainer(max_steps=5, engine=engine, **options)
        trainer.fit(task, DRAWN)
        weights.append(task.model.get_weights()[0].tobytes())
        drawn |= {trainer.validate(task, DRAWN)["val/drawn"] for _ in range(2)}
    assert weights[0] == weights[1]
    assert len(drawn) == 1


def test_devices_draw_on_as_if_nothing_had_been_validated() -> None:
    weights = []
    for every in (None, "1st"):
        task = Drawing(optimizer="sgd")
        make_trainer(max_steps=4, devices=2, val_every=every).fit(task, DRAWN)
        weights.append(task.model.get_weights()[0].tobytes())
    assert weights[0] == weights[1]


def test_pythons_and_numpys_generators_are_left_alone_where_steps_run_in_python() -> None:
    class Host(Drawing):
        def train_step(self, batch: Any) -> Any:
            self.log("numpy", float(np.random.rand()))
            self.log("python", python_random.random())
            return tf.reduce_mean((self.model(batch[0], training=True) - batch[1]) ** 2)

        def eval_step(self, batch: Any) -> None:
            self.log("drawn", float(np.random.rand()) + python_random.random())

    found = []
    for every in (None, "1st"):
        trainer = make_trainer(max_steps=4, engine="eager", val_every=every)
        trainer.fit(Host(optimizer="sgd"), DRAWN)
        found.append((trainer.metrics["train/numpy"], trainer.metrics["train/python"]))
    assert found[0] == found[1]


def test_an_augmentation_that_xla_would_vary_otherwise_runs_as_a_graph(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def by_tensorflow(batch: Any, seed: Any) -> Any:
        return batch[0] + tf.random.stateless_normal(tf.shape(batch[0]), seed), batch[1]

    def by_framework(batch: Any, seed: Any) -> Any:
        return batch[0] + random.normal(tf.shape(batch[0]), seed), batch[1]

    for augment, engine in ((by_tensorflow, "graph"), (by_framework, "loop_xla")):
        trainer = make_trainer(max_steps=1, engine="loop_xla")
        data = Data(train=(X, NUMBERS), batch_size=8, augment=augment)
        trainer.fit(Rows(optimizer="sgd"), data)
        assert trainer.engine == engine
    assert "StatelessRandomNormalV2" in caplog.text


def test_every_validation_of_a_run_draws_the_same_and_no_two_generators_do() -> None:
    class Two(Drawing):
        def build_model(self) -> Any:
            self.other = keras.random.SeedGenerator(9)
            return super().build_model()

        def eval_step(self, batch: Any) -> None:
            self.log("drawn", self.draw((2,)))
            self.log("other", keras.random.normal((2,), seed=self.other))

    rows = LogRows()
    make_trainer(max_steps=3, val_every="1st", callbacks=[rows]).fit(Two(optimizer="sgd"), DRAWN)
    drawn = [(row["val/drawn"], row["val/other"]) for _, row in rows.val]
    assert len(drawn) == 3
    assert len(set(drawn)) == 1
    assert drawn[0][0] != drawn[0][1]


def test_the_numbers_of_a_seed_are_always_these() -> None:
    seed = tf.constant([20, 7], tf.int64)
    drawn = random.bits([4], seed).numpy()
    assert drawn.tolist() == KNOWN["bits"]
    assert random.uniform([4], seed).numpy().tolist() == [(b >> 8) / 2**24 for b in signed(drawn)]
    assert random.randint([4], seed, 10, 1010).numpy().tolist() == [
        10 + (int(b) * 1000 >> 32) for b in drawn
    ]
    # Of 24 bits how far out, of the last one on which side; see Wichura's AS 241 for the quantiles.
    far = [-NormalDist().inv_cdf((int(b) >> 8) / 2**24 / 2) for b in drawn]
    wanted = [f if b % 2 == 0 else -f for f, b in zip(far, drawn.tolist(), strict=True)]
    np.testing.assert_allclose(random.normal([4], seed), wanted, atol=2e-5)
    assert random.permutation(5, seed).numpy().tolist() == KNOWN["permutation"]
    assert random.fold(seed, 1, 2).numpy().tolist() == KNOWN["fold"]


def signed(drawn: Any) -> list[int]:
    """Return what a uniform draw makes of bits: those of signed numbers, from 0 on."""
    return [int(b) ^ 0x80000000 for b in drawn]


KNOWN: dict[str, list[int]] = {
    "bits": [1734915209, 4002369872, 91446830, 455219319],
    "permutation": [2, 3, 0, 1, 4],
    "fold": [4646427994824655481, 7],
}

WRONG: dict[str, tuple[Callable[[], Any], str]] = {
    "seed": (lambda: random.normal([2], 3), "the seed is a int32 of shape ()"),
    "seed of floats": (lambda: random.uniform([2], [1.0, 2.0]), "the seed is a float32"),
    "seed of three": (lambda: random.fold([1, 2, 3], 1), "of shape (3,)"),
    "shape": (lambda: random.normal(4, SEED), "the shape is 4"),
    "shape of floats": (lambda: random.bits([2.0], SEED), "the shape is [2.0]"),
    "dtype": (lambda: random.normal([2], SEED, dtype=tf.int32), "the dtype is int32"),
    "dtype of uniform": (lambda: random.uniform([2], SEED, dtype="int64"), "the dtype is int64"),
    "dtype of randint": (lambda: random.randint([2], SEED, 0, 5, tf.uint8), "the dtype is uint8"),
    "no dtype": (lambda: random.normal([2], SEED, dtype="f99"), "the dtype is f99"),
    "no number": (lambda: random.randint([2], SEED, 5, 5), "there are 0 numbers"),
    "too many": (lambda: random.randint([2], SEED, 0, 2**33), "8,589,934,592 numbers"),
    "swapped": (lambda: random.uniform([2], SEED, 1.0, -1.0), "minval is 1 and maxval -1"),
    "nan": (lambda: random.uniform([2], SEED, 0.0, np.nan), "maxval is nan"),
    "chance": (lambda: random.bernoulli([2], SEED, 1.5), "the probability is 1.5"),
    "deviation": (lambda: random.normal([2], SEED, 0.0, [1.0, 2.0]), "stddev is [1.0, 2.0]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_arguments_that_are_none(name: str) -> None:
    draw, message = WRONG[name]
    with pytest.raises(UserError) as error:
        draw()
    assert message in error.value.what
    assert error.value.fix


def test_bounds_that_are_tensors() -> None:
    @tf.function
    def bounds(high: tf.Tensor) -> tf.Tensor:
        return random.randint([50], SEED, 0, high)

    assert bounds(tf.constant(3)).numpy().max() == 2

    @tf.function(autograph=False)
    def refused(high: tf.Tensor) -> tf.Tensor:
        return random.uniform([50], SEED, 0.0, high)

    with pytest.raises(UserError, match="maxval is a tensor"):
        refused(tf.constant(3.0))
