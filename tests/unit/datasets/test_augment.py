"""Augmentation: exact where it can be, from the seed alone, the same with and without XLA."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.datasets.augment import Augment
from framework.errors import UserError

ALL = {"flip": True, "crop": 3, "cutout": 4, "brightness": 0.3, "contrast": 0.4}


def images(rows: int = 64, shape: tuple[int, ...] = (9, 11, 3), dtype: str = "float32") -> Any:
    """Images without a 0 in them, so that what was filled with 0 shows."""
    random = np.random.RandomState(0)
    if dtype == "uint8":
        return random.randint(1, 256, (rows, *shape)).astype(dtype)
    return random.uniform(0.01, 1, (rows, *shape)).astype(dtype)


def seed(step: int = 0, run: int = 5) -> tf.Tensor:
    return tf.constant([run, step], tf.int64)


def run(augment: Augment, x: np.ndarray, step: int = 0) -> np.ndarray:
    result, labels = augment((x, np.arange(len(x))), seed(step))
    assert np.array_equal(labels, np.arange(len(x)))
    return np.asarray(result)


def test_flip_mirrors_about_half_of_the_images_exactly() -> None:
    x = images(400)
    out = run(Augment(flip=True), x)
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(out, x, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(out, x, strict=True)]
    assert all(m != k for m, k in zip(mirrored, kept, strict=True))
    # 200 expected, with a standard deviation of 10.
    assert 150 < sum(mirrored) < 250


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_crop_is_a_window_of_the_padded_image(dtype: str) -> None:
    pad = 2
    x = images(300, dtype=dtype)
    out = run(Augment(crop=pad), x)
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    seen = set()
    for image, wide in zip(out, padded, strict=True):
        windows = {
            (i, j): wide[i : i + 9, j : j + 11] for i in range(2 * pad + 1) for j in range(5)
        }
        found = [at for at, window in windows.items() if np.array_equal(window, image)]
        assert len(found) == 1
        seen.add(found[0])
    # 300 draws of 25 places: missing even one has a chance of 1 in 8,000.
    assert len(seen) == 25


def test_cutout_blanks_one_square_cut_off_at_the_edges() -> None:
    x = images(500)
    for side in (1, 3, 4):
        out = run(Augment(cutout=side), x)
        centres = set()
        for before, after in zip(x, out, strict=True):
            hole = (after == 0).all(axis=-1)
            assert np.array_equal(after[~hole], before[~hole])
            rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
            assert hole.sum() == len(rows) * len(columns)
            assert np.array_equal(rows, np.arange(rows[0], rows[-1] + 1))
            for places, length in ((rows, 9), (columns, 11)):
                at_edge = places[0] == 0 or places[-1] == length - 1
                assert len(places) == side or (at_edge and len(places) < side)
            centres.add((rows[0], columns[0]))
        assert len(centres) > 40


def test_brightness_adds_one_number_to_each_image() -> None:
    x = (0.4 + 0.2 * images()).astype("float32")
    shift = run(Augment(brightness=0.3), x) - x
    flat = shift.reshape(len(x), -1)
    np.testing.assert_allclose(flat, np.broadcast_to(flat[:, :1], flat.shape), atol=1e-6)
    assert np.abs(flat).max() <= 0.3 + 1e-6
    assert flat[:, 0].min() < -0.2
    assert flat[:, 0].max() > 0.2


def test_contrast_is_that_of_tf_image() -> None:
    x = (0.4 + 0.2 * images()).astype("float32")
    out = run(Augment(contrast=0.5), x)
    centred = x - x.mean(axis=(1, 2), keepdims=True)
    factors = [float((o * c).sum() / (c * c).sum()) for o, c in zip(out, centred, strict=True)]
    wanted = [tf.image.adjust_contrast(i, f) for i, f in zip(x, factors, strict=True)]
    np.testing.assert_allclose(out, np.stack(wanted), atol=1e-5)
    assert 0.5 <= min(factors) < 0.65
    assert 1.35 < max(factors) <= 1.5


def test_light_of_whole_numbers_is_that_of_fractions_rounded() -> None:
    x = images(dtype="uint8")
    for options in ({"brightness": 1.0}, {"contrast": 1.0}, {"brightness": 0.5, "contrast": 0.5}):
        whole = run(Augment(**options), x)
        exact = run(Augment(**options), (x / 255).astype("float32")) * 255
        assert whole.dtype == np.uint8
        assert np.abs(whole - exact).max() < 0.51


def test_the_seed_alone_decides() -> None:
    x = images()
    augment = Augment(**ALL)
    first = run(augment, x, step=3)
    assert run(augment, x, step=3).tobytes() == first.tobytes()
    for step, other in ((4, 5), (3, 6), (2**40, 5)):
        changed, _ = augment((x, np.arange(len(x))), seed(step, other))
        differs = [not np.array_equal(a, b) for a, b in zip(changed, first, strict=True)]
        assert np.mean(differs) > 0.9
    with_int32, _ = augment((x, np.arange(len(x))), tf.constant([5, 3], tf.int32))
    assert np.array_equal(with_int32, first)


def test_every_example_draws_its_own() -> None:
    x = np.repeat(images(1), 64, axis=0)
    assert len({image.tobytes() for image in run(Augment(**ALL), x)}) > 60


def test_one_option_does_not_change_the_draws_of_another() -> None:
    x = images()
    cropped = run(Augment(crop=3), run(Augment(flip=True), x))
    assert np.array_equal(run(Augment(flip=True, crop=3), x), cropped)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_eager_graph_and_xla_agree(dtype: str) -> None:
    x, y = images(dtype=dtype), np.arange(64)
    moving, light = Augment(flip=True, crop=3, cutout=4), Augment(brightness=0.3, contrast=0.4)
    for augment, atol in ((moving, 0), (light, 1 if dtype == "uint8" else 1e-6)):
        eager = augment((x, y), seed(9))[0].numpy()
        for jit in (False, True):
            compiled = tf.function(augment, jit_compile=jit)
            other = compiled((tf.constant(x), tf.constant(y)), seed(9))[0].numpy()
            np.testing.assert_allclose(other.astype(float), eager.astype(float), rtol=0, atol=atol)


@settings(max_examples=20)
@given(
    rows=st.integers(0, 5),
    side=st.tuples(st.integers(4, 12), st.integers(4, 12)),
    channels=st.sampled_from([(), (1,), (3,), (5,)]),
    dtype=st.sampled_from(["uint8", "int32", "float16", "float32", "float64"]),
    options=st.fixed_dictionaries(
        {
            "flip": st.booleans(),
            "crop": st.integers(0, 4),
            "cutout": st.integers(0, 4),
            "brightness": st.sampled_from([0.0, 0.5, 1]),
            "contrast": st.sampled_from([0.0, 0.5, 1]),
        }
    ),
)
def test_shape_dtype_and_range_stay(
    rows: int, side: tuple[int, int], channels: tuple[int, ...], dtype: str, options: Any
) -> None:
    full = 1 if dtype.startswith("float") else 255
    x = (np.random.RandomState(1).uniform(0, full, (rows, *side, *channels))).astype(dtype)
    out = run(Augment(**options), x)
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
    assert rows == 0 or (out.min() >= 0 and out.max() <= full)


def test_nests_and_unknown_sizes_pass_through() -> None:
    x = images()
    augment = Augment(**ALL)
    wanted = run(augment, x)
    label, weight = tf.range(64), tf.ones(64)
    nested = augment({"image": x, "target": (label, weight)}, seed())
    assert np.array_equal(nested["image"], wanted)
    assert nested["target"][0] is label
    assert nested["target"][1] is weight
    assert np.array_equal(augment(tf.constant(x), seed()), wanted)

    @tf.function(input_signature=[tf.TensorSpec([None, None, None, 3])])
    def unknown(x: tf.Tensor) -> Any:
        return augment((x,), seed())

    np.testing.assert_allclose(unknown(x)[0], wanted, atol=1e-6)


def test_everything_off_changes_nothing() -> None:
    batch = (tf.constant(images()), tf.range(64))
    assert Augment()(batch, seed()) is batch
    assert not Augment().enabled
    assert all(Augment(**{name: value}).enabled for name, value in ALL.items())


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"flip": 1}, "flip is 1"),
        ({"crop": -1}, "crop is -1"),
        ({"crop": 1.5}, "crop is 1.5"),
        ({"crop": True}, "crop is True"),
        ({"cutout": -2}, "cutout is -2"),
        ({"brightness": 1.1}, "brightness is 1.1"),
        ({"brightness": -0.1}, "brightness is -0.1"),
        ({"contrast": float("nan")}, "contrast is nan"),
        ({"contrast": "much"}, "contrast is 'much'"),
    ],
)
def test_options_out_of_range_are_refused(options: Any, wanted: str) -> None:
    with pytest.raises(UserError) as caught:
        Augment(**options)
    assert caught.value.what == wanted
    assert caught.value.where == f"data.augment.{wanted.split()[0]}"
    assert caught.value.fix


def test_what_does_not_fit_the_images_is_refused() -> None:
    for options in ({"crop": 10}, {"cutout": 10}):
        with pytest.raises(UserError, match="is 10"):
            run(Augment(**options), images())
        run(Augment(**dict.fromkeys(options, 9)), images())
    with pytest.raises(UserError, match=r"needs images.*\(5, 4\)"):
        Augment(flip=True)((tf.zeros([5, 4]), tf.zeros(5)), seed())
