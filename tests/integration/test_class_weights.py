"""Weights of classes and rows count as in Keras's own `fit`."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from averaged import sgd
from helpers import CLASSES, FEATURES, Initial, make_trainer

from framework import Data, UserError
from tasks.classifier import Classifier

ROWS, VAL = 40, 16
RANDOM = np.random.RandomState(5)
X = RANDOM.randn(ROWS + VAL, FEATURES).astype("float32")
Y = RANDOM.choice(CLASSES, ROWS + VAL, p=[0.7, 0.2, 0.1])
W = RANDOM.rand(ROWS + VAL).astype("float32") * 3
ONE_HOT = np.eye(CLASSES, dtype="float32")[Y]
WEIGHTS = {0: 0.25, 2: 5.0}


def small() -> keras.Model:
    return keras.Sequential(
        [keras.Input((FEATURES,)), keras.layers.Dense(CLASSES, activation="softmax")]
    )


class Small(Classifier):
    def build_model(self) -> keras.Model:
        return small()


def cut(rows: slice, *parts: Any) -> tuple[Any, ...]:
    return tuple(part[rows] for part in parts)


TRAIN, HELD = slice(ROWS), slice(ROWS, None)


def balanced() -> dict[int, float]:
    """As scikit-learn's `compute_class_weight("balanced", ...)`: n / (k * np.bincount(y))."""
    counts = np.bincount(Y[TRAIN])
    return dict(enumerate(ROWS / (len(counts) * counts)))


def keras_fit(initial: list[Any], train: Any, val: Any, loss: str, **given: Any) -> Any:
    model = small()
    model.set_weights(initial)
    model.compile("sgd", loss, metrics=["accuracy"])
    model.optimizer.learning_rate = 0.1
    options = {"epochs": 2, "batch_size": 8, "shuffle": False, "verbose": 0, **given}
    return model.get_weights, model.fit(*train[:2], validation_data=val, **options).history, model


NAMED = {1: 1.0, **WEIGHTS}
PRODUCT = W[TRAIN] * np.array([0.25, 1.0, 5.0])[Y[TRAIN]]


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "one_hot"),
    [
        ({"class_weight": WEIGHTS}, {"class_weight": NAMED}, {}, False),
        ({"class_weight": WEIGHTS}, {"class_weight": NAMED}, {}, True),
        ({"class_weight": WEIGHTS}, {"class_weight": NAMED}, {"devices": 3}, False),
        ({"class_weight": "balanced"}, {"class_weight": balanced()}, {}, False),
        ({"class_weight": "balanced"}, {"class_weight": balanced()}, {}, True),
        ({}, {"sample_weight": W[TRAIN]}, {}, False),
        ({}, {"sample_weight": W[TRAIN]}, {"devices": 3}, False),
        ({}, {"sample_weight": W[TRAIN], "batch_size": 16}, {"accumulate": 2}, False),
        (
            {"class_weight": WEIGHTS},
            {"sample_weight": PRODUCT},
            {"engine": "loop_xla"},
            False,
        ),
    ],
)
def test_they_count_as_in_keras(ours: Any, theirs: Any, options: Any, one_hot: bool) -> None:
    labels = ONE_HOT if one_hot else Y
    parts = (X, labels, W) if "sample_weight" in theirs else (X, labels)
    train, val = cut(TRAIN, *parts), cut(HELD, *parts)
    name = "categorical_accuracy" if one_hot else "accuracy"
    loss = keras.losses.get(("" if one_hot else "sparse_") + "categorical_crossentropy")
    kind = keras.losses.CategoricalCrossentropy if one_hot else None
    task = Small(
        optimizer=sgd(0.1),
        loss=(kind or keras.losses.SparseCategoricalCrossentropy)(),
        metrics=[name],
        **ours,
    )
    initial = Initial()
    trainer = make_trainer(max_epochs=2, callbacks=[initial], **options)
    trainer.fit(task, Data(train=train, val=val, batch_size=8, shuffle=False))
    weights, history, _ = keras_fit(initial.weights, train, val, loss.__name__, **theirs)
    for mine, wanted in zip(task.model.get_weights(), weights(), strict=True):
        np.testing.assert_allclose(mine, wanted, rtol=1e-4, atol=1e-6)
    for ours_name, theirs_name in (
        ("train/loss", "loss"),
        (f"train/{name}", "accuracy"),
        ("val/loss", "val_loss"),
        (f"val/{name}", "val_accuracy"),
    ):
        assert trainer.metrics[ours_name] == pytest.approx(history[theirs_name][-1], rel=1e-4)


def test_balanced_counts_only_what_is_trained_on() -> None:
    seen: list[Any] = []

    class Spying(Small):
        def on_fit_end(self) -> None:
            seen.append(self.class_weights.table(lambda: None).copy())
            super().on_fit_end()

    y = np.array([0] * 12 + [1] * 4 + [2] * 4)
    x = np.zeros((20, FEATURES), "float32")
    task = Spying(optimizer=sgd(), loss=keras.losses.SparseCategoricalCrossentropy(),
                  class_weight="balanced")  # fmt: skip
    make_trainer(max_epochs=1).fit(task, Data(train=(x, y), val=(x, y * 0), batch_size=4))
    # Another fit with other data counts again.
    make_trainer(max_epochs=1).fit(task, Data(train=(x, (y > 0) * 1), batch_size=4))
    np.testing.assert_allclose(seen[0], [20 / 36, 20 / 12, 20 / 12], rtol=1e-6)
    np.testing.assert_allclose(seen[1], [20 / 24, 20 / 16], rtol=1e-6)


def test_a_loss_of_rows_that_is_a_function() -> None:
    results = []
    for loss in (
        keras.losses.SparseCategoricalCrossentropy(),
        keras.losses.sparse_categorical_crossentropy,
    ):
        task = Small(optimizer=sgd(), loss=loss, class_weight=WEIGHTS)
        make_trainer(max_epochs=1).fit(task, Data(train=cut(TRAIN, X, Y), batch_size=8))
        results.append(task.model.get_weights())
    for left, right in zip(*results, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("balance", "class_weight is 'balance'"),
        ([1, 2], "class_weight is [1, 2]"),
        ({}, "class_weight is {}"),
        ({0: -1.0}, "the weight of class 0 is -1.0"),
        ({0: "a"}, "the weight of class 0 is 'a'"),
        ({"a": 1.0}, "'a' is not the number of a class"),
        ({-1: 1.0}, "-1 is not the number of a class"),
    ],
)
def test_weights_of_another_kind_are_refused(given: Any, said: str) -> None:
    with pytest.raises(UserError) as error:
        Small(class_weight=given)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("class_weight", "weights", "said"),
    [
        ({0: 1.0, 7: 2.0}, None, ["no training row has class 7", "The classes are 0, 1, 2."]),
        (None, np.stack([W, W], 1), ["the weights have the shape", "2)"]),
        (None, np.stack([W, W], 1)[:, :, None], ["the weights have the shape"]),
    ],
)
def test_weights_that_do_not_fit_the_data_are_refused(
    class_weight: Any, weights: Any, said: list[str]
) -> None:
    parts = (X, Y) if weights is None else (X, Y, weights)
    task = Small(
        optimizer=sgd(),
        loss=keras.losses.SparseCategoricalCrossentropy(),
        class_weight=class_weight,
    )
    with pytest.raises(UserError) as error:
        make_trainer(max_epochs=1).fit(task, Data(train=parts, batch_size=8))
    assert all(part in str(error.value) for part in said), error.value
