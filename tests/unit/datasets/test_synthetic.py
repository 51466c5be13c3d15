"""The stand-in: reproducible to the bit, balanced, learnable but not trivial."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.datasets import synthetic
from framework.datasets.synthetic import synthetic_images


def small(name: str = "digits", seed: int = 0, **changes: object) -> tuple[np.ndarray, ...]:
    options = {"shape": (28, 28), "rows": (1200, 300), "classes": 10, **changes}
    return synthetic_images(name, seed=seed, **options)  # type: ignore[arg-type]


def bits(arrays: tuple[np.ndarray, ...]) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


@given(
    side=st.tuples(st.integers(4, 40), st.integers(4, 40)),
    channels=st.sampled_from([(), (1,), (3,), (4,)]),
    rows=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    classes=st.integers(1, 256),
    seed=st.integers(-(2**40), 2**40),
)
def test_shapes_dtypes_and_label_range(
    side: tuple[int, int],
    channels: tuple[int, ...],
    rows: tuple[int, int],
    classes: int,
    seed: int,
) -> None:
    shape = (*side, *channels)
    x, y, x_test, y_test = synthetic_images(
        "any", shape=shape, rows=rows, classes=classes, seed=seed
    )
    assert (x.shape, x_test.shape) == ((rows[0], *shape), (rows[1], *shape))
    assert (y.shape, y_test.shape) == ((rows[0],), (rows[1],))
    assert {a.dtype for a in (x, y, x_test, y_test)} == {np.dtype("uint8")}
    assert max(y.max(), y_test.max()) < classes


def test_the_same_seed_gives_the_same_bits_on_every_machine() -> None:
    # Written down once: whole-number arithmetic on Philox's stream may not change.
    assert bits(small()) == "fb10fe32c5fdca65a6b54efc9ec1837e73e729e418273f374f0d30fabdefe70e"
    colour = small("photographs", seed=7, shape=(32, 32, 3), rows=(60, 20), classes=100)
    assert bits(colour) == "b0317fba9bdf56e49f84b417845a2ede385f711fd6b1b35f1cf740a5ab0813ee"


def test_seed_and_name_change_everything() -> None:
    x, y, *_ = small()
    for other in (small(seed=1), small(seed=2**32), small("letters")):
        assert not np.array_equal(y, other[1])
        assert np.mean(x == other[0]) < 0.05


def test_how_the_rows_are_cut_into_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bits(small())
    monkeypatch.setattr(synthetic, "_CHUNK", 7)
    assert bits(small()) == whole


def test_no_image_is_there_twice() -> None:
    x, _, x_test, _ = small(rows=(3000, 1000))
    assert len({row.tobytes() for row in (*x, *x_test)}) == 4000


def test_both_splits_have_one_distribution() -> None:
    x, y, x_test, y_test = small(rows=(6000, 6000))
    for label in range(10):
        ours, theirs = x[y == label].mean(axis=0), x_test[y_test == label].mean(axis=0)
        spread = x[y == label].std(axis=0)
        # 600 images a class: a mean is off by about spread / sqrt(600), a difference by sqrt(2).
        off = (ours - theirs) / (spread * np.sqrt(2 / 600))
        # Neighbours move together, so the mean square has few degrees of freedom.
        assert np.mean(off**2) < 2.0
        assert not np.allclose(ours, x[y == (label + 1) % 10].mean(axis=0), atol=5)


def test_classes_are_equally_frequent_before_a_tenth_of_the_labels_goes_wrong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noisy = small(rows=(20_000, 5_000), shape=(4, 4))
    monkeypatch.setattr(synthetic, "WRONG", 0.0)
    true = small(rows=(20_000, 5_000), shape=(4, 4))
    assert np.bincount(true[1]).tolist() == [2000] * 10
    assert np.bincount(true[3]).tolist() == [500] * 10
    assert np.array_equal(noisy[0], true[0])
    # A label drawn anew is right by luck one time in ten: 9 % differ, give or take 0.2 %.
    assert np.mean(noisy[1] != true[1]) == pytest.approx(0.09, abs=0.01)
    # The bound on any accuracy: the wrong labels are spread over all classes.
    assert np.bincount(noisy[1][noisy[1] != true[1]]).min() > 100


def test_nearest_images_tell_the_class_better_than_chance_and_not_for_sure() -> None:
    x, y, x_test, y_test = small(rows=(6000, 300))

    def features(images: np.ndarray) -> np.ndarray:
        flat = images.reshape(len(images), 7, 4, 7, 4).mean(axis=(2, 4)).reshape(len(images), -1)
        return (flat - flat.mean(1, keepdims=True)) / flat.std(1, keepdims=True)

    near = (features(x_test) @ features(x).T).argmax(axis=1)
    accuracy = np.mean(y[near] == y_test)
    assert 0.25 < accuracy < 0.9, accuracy


def test_a_whole_set_is_made_quickly() -> None:
    started = time.process_time()
    x, *_ = synthetic_images("cifar100", shape=(32, 32, 3), rows=(50_000, 10_000), classes=100)
    # About 0.8 s on one core; the bound leaves room for a slow and busy machine.
    assert time.process_time() - started < 6
    assert 100 < x[:1000].mean() < 155
    assert x[:1000].std() > 30
