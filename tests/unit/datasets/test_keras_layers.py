"""Keras's preprocessing layers as augmentation: what they draw is a function of the seed."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from framework import Augment, Data, UserError
from framework.datasets.keras_layers import apply_layers

L = keras.layers
RANGE = {"value_range": (0, 1)}
ROWS = 16


def seed(step: int, other: int = 7) -> tf.Tensor:
    return tf.constant([other, step], tf.int64)


def images(dtype: str = "float32") -> np.ndarray:
    drawn = np.random.default_rng(0).random((ROWS, 8, 8, 3))
    return (drawn * 255).astype(dtype) if dtype == "uint8" else drawn.astype(dtype)


def one_hot() -> np.ndarray:
    return np.eye(ROWS, dtype="float32")


KINDS = {
    "flip": lambda: [L.RandomFlip()],
    "rotation and noise": lambda: [L.RandomRotation(0.2), L.GaussianNoise(0.1)],
    "rand_augment": lambda: [L.RandAugment(**RANGE)],
    "mix_up": lambda: [L.MixUp(alpha=1.0)],
    "cut_mix": lambda: [L.CutMix()],
    "sequential": lambda: [keras.Sequential([L.RandomFlip(), L.RandomContrast(0.3, **RANGE)])],
    "pipeline": lambda: [L.Pipeline([L.RandomFlip(), L.MixUp()])],
    "two alike": lambda: [L.GaussianNoise(0.1), L.GaussianNoise(0.1)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_a_function_of_its_seed(kind: str) -> None:
    layers, others = KINDS[kind](), KINDS[kind]()
    batch = images(), one_hot()
    first = [part.numpy() for part in apply_layers(layers, batch, seed(3))]
    assert not np.array_equal(first[0], batch[0])
    keras.utils.set_random_seed(99)
    for step in range(4):  # whatever was drawn before
        changed = apply_layers(others, batch, seed(step))[0].numpy()
        assert np.array_equal(changed, first[0]) == (step == 3)
    assert not np.array_equal(apply_layers(layers, batch, seed(3, other=8))[0], first[0])

    compiled = tf.function(lambda step: apply_layers(layers, batch, tf.stack([7, step])))
    for ours, alone in zip(compiled(tf.constant(3, tf.int64)), first, strict=True):
        np.testing.assert_allclose(ours, alone, atol=2e-3 if kind == "rand_augment" else 1e-6)


def test_layers_alike_draw_differently_and_keep_their_own_states() -> None:
    layers = [L.GaussianNoise(1.0), L.GaussianNoise(1.0)]
    before = [each.seed_generator.state.numpy() for each in layers]
    zeros = tf.zeros([64, 8, 8, 1])
    once = apply_layers(layers[:1], (zeros,), seed(0))[0].numpy()
    twice = apply_layers(layers, (zeros,), seed(0))[0].numpy()
    # Independent draws: the variances add up. Equal ones would give a deviation of 2.
    assert once.std() == pytest.approx(1.0, abs=0.05)
    assert twice.std() == pytest.approx(np.sqrt(2), abs=0.07)
    for layer, state in zip(layers, before, strict=True):
        np.testing.assert_array_equal(layer.seed_generator.state, state)


def test_labels_are_mixed_as_the_images_are() -> None:
    eye = one_hot()  # image i has its only 1 in channel i, as label i has in column i
    mixed, labels, weights = apply_layers(
        [L.MixUp(alpha=1.0)], (eye[:, None, None, :], eye, np.arange(ROWS)), seed(5)
    )
    np.testing.assert_allclose(mixed[:, 0, 0], labels, atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(labels, -1), 1.0, atol=1e-6)
    assert np.abs(labels - eye).max() > 0.1
    np.testing.assert_array_equal(weights, np.arange(ROWS))


def test_structure_and_dtypes_stay() -> None:
    layers = [L.RandomContrast(0.5, value_range=(0, 255))]
    given: dict[str, Any] = {"image": images("uint8"), "label": np.arange(ROWS)}
    found = apply_layers(layers, given, seed(1))
    assert found["image"].dtype == tf.uint8
    assert not np.array_equal(found["image"], given["image"])
    np.testing.assert_array_equal(found["label"], given["label"])
    # Without a channel axis, it is the same image.
    flat = images()[..., 0]
    flipped = apply_layers([L.RandomFlip()], (flat,), seed(1))[0]
    np.testing.assert_array_equal(
        flipped, apply_layers([L.RandomFlip()], (flat[..., None],), seed(1))[0][..., 0]
    )


def test_half_of_the_images_are_mirrored() -> None:
    ramp = np.tile(np.arange(8.0, dtype="float32"), (200, 8, 1))[..., None]
    found = apply_layers([L.RandomFlip("horizontal")], (ramp,), seed(0))[0]
    mirrored = np.mean(found.numpy()[:, 0, 0, 0] == 7.0)
    assert 0.38 < mirrored < 0.62  # 3.4 standard deviations of 200 fair coins


class Tinted(L.RandomFlip):
    """A layer of a user's own that changes labels."""

    def transform_labels(self, labels: Any, transformation: Any, training: bool = True) -> Any:
        return labels * 0.5


def test_a_layer_of_ones_own_may_change_labels() -> None:
    labels = apply_layers([Tinted()], (images(), one_hot()), seed(0))[1]
    np.testing.assert_array_equal(labels, one_hot() * 0.5)


@pytest.mark.parametrize(
    ("layers", "labels", "said"),
    [
        (lambda: [L.MixUp()], np.arange(ROWS), "MixUp mixes labels"),
        (lambda: [L.Pipeline([L.CutMix()])], np.arange(ROWS), "Pipeline mixes labels"),
        (lambda: [L.RandomCrop(4, 4)], one_hot(), r"from \(16, 8, 8, 3\) to \(16, 4, 4, 3\)"),
        (lambda: [L.AugMix(**RANGE)], one_hot(), "AugMix draws in Python"),
    ],
)
def test_what_cannot_be_applied_is_refused(layers: Any, labels: Any, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        apply_layers(layers(), (images(), labels), seed(0))
    assert caught.value.where == "data.augment"


class InALoop(L.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.seeds = keras.random.SeedGenerator(0)

    def call(self, inputs: Any, training: bool = True) -> Any:
        return tf.map_fn(lambda i: i + keras.random.normal(i.shape, seed=self.seeds), inputs)


def test_a_draw_that_all_images_would_share_is_refused() -> None:
    @tf.function(autograph=False)
    def compiled() -> Any:
        return apply_layers([InALoop()], (images(),), seed(0))

    with pytest.raises(UserError, match="draws in a loop"):
        compiled()


def test_what_is_not_a_list_of_layers_is_refused() -> None:
    with pytest.raises(UserError, match="layers is 'flip'"):
        Augment(layers="flip")
    with pytest.raises(UserError, match="layers is 3"):
        Augment(layers=[3])
    with pytest.raises(UserError, match="augment"):
        Data(train=images(), augment=L.RandomFlip())
