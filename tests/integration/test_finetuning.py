"""A network that is trained part by part, each with a rate of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from averaged import STEPS, fit, normed
from helpers import (
    CLASSES,
    FEATURES,
    Initial,
    Net,
    StopAt,
    blobs,
    busy_data,
    cross_entropy,
    differing,
)

from framework import UserError
from framework.callbacks.finetuning import FineTuning
from framework.loop.compiled import Loop

PARTS = [
    {"layers": "one", "epoch": 2, "rate": 0.1, "ramp": 3},
    {"layers": "two", "epoch": 1, "rate": 0.5, "ramp": STEPS + 1},
]


def three() -> keras.Model:
    sizes = {"one": 5, "two": 4, "head": CLASSES}
    layers = [keras.layers.Dense(n, activation="tanh", name=name) for name, n in sizes.items()]
    return keras.Sequential([keras.Input((FEATURES,)), *layers])


def adamw() -> keras.Optimizer:
    return keras.optimizers.AdamW(0.02, weight_decay=0.3)


def bare(first: list[np.ndarray], epochs: int) -> list[np.ndarray]:
    """AdamW (Loshchilov and Hutter, 2019) in NumPy with a rate for each layer; the tape is bare."""
    model = three()
    model.set_weights(first)
    x, y = blobs(8 * STEPS)
    weights = [w.astype("f8") for w in first]
    m, v = [np.zeros_like(w) for w in weights], [np.zeros_like(w) for w in weights]
    for step in range(epochs * STEPS):
        rows = slice(step % STEPS * 8, (step % STEPS + 1) * 8)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(cross_entropy(y[rows], model(x[rows])))
        slopes = tape.gradient(loss, model.trainable_variables)
        one = 0.1 * min(max((step - 2 * STEPS + 1) / 3, 0), 1)
        two = 0.5 * min(max((step - STEPS + 1) / (STEPS + 1), 0), 1)
        for i, factor in enumerate([one, one, two, two, 1.0, 1.0]):
            if factor == 0.0:
                continue  # frozen: its moments do not move
            g, t = np.asarray(slopes[i], "f8"), step + 1
            m[i], v[i] = 0.9 * m[i] + 0.1 * g, 0.999 * v[i] + 0.001 * g**2
            rate = 0.02 * np.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            decay = 0.02 * 0.3 * weights[i]
            weights[i] = weights[i] - factor * (decay + rate * m[i] / (np.sqrt(v[i]) + 1e-7))
        model.set_weights(weights)
    return weights


@pytest.mark.parametrize(
    "options",
    [{"engine": "graph"}, {"engine": "loop_xla"}, {"devices": 2}],
    ids=str,
)
def test_each_part_learns_at_its_own_rate(options: dict[str, Any]) -> None:
    initial, task = Initial(), Net(three, optimizer=adamw)
    fit(task, initial, FineTuning(PARTS), **options)
    for mine, wanted in zip(task.model.get_weights(), bare(initial.weights, 3), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=2e-4, atol=2e-6)


def test_a_rate_of_one_leaves_the_bits() -> None:
    plain = fit(Net(three, optimizer=adamw))
    same = fit(Net(three, optimizer=adamw), FineTuning([{"layers": ["one", "two"], "rate": 1}]))
    assert differing(plain, same) == []


@pytest.mark.parametrize("cut", [15, 26, 30, 40])
def test_cut_anywhere_the_bits_are_those_of_the_unbroken_run(
    cut: int, tmp_path: Path, whole: Any
) -> None:
    fit(noisy_task(), FineTuning(PARTS), StopAt(cut), data=busy_data(), run_dir=tmp_path)
    trainer = fit(noisy_task(), FineTuning(PARTS), data=busy_data(), run_dir=tmp_path)
    assert differing(whole, trainer) == []


@pytest.fixture(scope="module")
def whole() -> Any:
    return fit(noisy_task(), FineTuning(PARTS), data=busy_data())


def noisy_task() -> Net:
    return Net(three, optimizer=adamw)


def test_the_step_is_compiled_only_when_a_part_is_unfrozen(monkeypatch: Any) -> None:
    traced: list[int] = []
    original: Callable[..., Any] = Loop.forget
    monkeypatch.setattr(Loop, "forget", lambda self: (traced.append(1), original(self))[1])
    fit(Net(three, optimizer=adamw), FineTuning(PARTS), max_epochs=5)
    assert len(traced) == 2


def test_every_layer_is_as_trainable_afterwards() -> None:
    task = Net(normed, optimizer=adamw)
    fit(task, FineTuning([{"layers": "dense", "epoch": 7}]), max_epochs=1)
    assert len(task.model.trainable_variables) == 6


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], "parts is []"),
        ("one", "parts is 'one'"),
        (["one"], "is 'one'"),
        ([{"layers": "one", "lr": 0.1}], "there is no 'lr'"),
        ([{"epoch": 1}], "layers is ''"),
        ([{"layers": "one", "epoch": -1}], "epoch is -1"),
        ([{"layers": "one", "rate": 0}], "rate is 0"),
        ([{"layers": "one", "ramp": 0.5}], "ramp is 0.5"),
    ],
)
def test_parts_out_of_range_are_refused(parts: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        FineTuning(parts)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("parts", "optimizer", "said"),
    [
        ([{"layers": "oen"}], adamw, "Did you mean 'one'?"),
        ([{"layers": "*"}, {"layers": "one"}], adamw, "is also in callbacks.finetuning.parts[0]"),
        (
            [{"layers": "one", "rate": 0.5}],
            lambda: keras.optimizers.SGD(0.1, use_ema=True),
            "callbacks=ema",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: Any, optimizer: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        fit(Net(three, optimizer=optimizer), FineTuning(parts))
    assert said in str(error.value)
