"""Random numbers that are the same in every engine and forever."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from framework import UserError, random

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
