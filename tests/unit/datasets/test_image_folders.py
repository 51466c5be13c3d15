"""Folders of images: decoded and resized, in the order of arrays; damaged files are named."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_trainer

from framework import Augment, Task, UserError
from framework.datasets.image_files import ImageFiles
from framework.datasets.image_folder import image_folder
from framework.sources.arrays import permutation
from framework.sources.open import open_eval, open_train


def write(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode = tf.io.encode_png if path.suffix == ".png" else tf.io.encode_jpeg
    path.write_bytes(encode(image).numpy())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 4 PNGs, whose pixels are all 20 * (number of the file)."""
    for label, name in enumerate(("ape", "bee", "cat")):
        for n in range(4):
            image = np.full((6, 8, 3), 20 * (4 * label + n), np.uint8)
            write(tmp_path / "set" / name / f"{n}.png", image)
    return tmp_path / "set"


def epoch(source: Any, number: int = 0, start: int = 0) -> list[tuple[list[float], list[int]]]:
    cursor, found = source.cursor(number, start), []
    with source.reading():
        for first, stop, size in source.parts(start, source.steps):
            for index in range(first, stop):
                images, labels = source.read(cursor, tf.constant(index, tf.int64), size)
                values = images.numpy()[:, 0, 0, 0] * 255 / 20
                found.append((values.round().astype(int).tolist(), labels.numpy().tolist()))
                source.moved(index + 1)
    return found


@pytest.mark.parametrize("resident", [None, True])
def test_batches_have_the_order_of_arrays_and_start_anywhere(folder: Path, resident: Any) -> None:
    data = image_folder(folder, size=(4, 4), batch_size=5, resident=resident)
    source = open_train(data, seed=3)
    for number, start in ((0, 0), (2, 1), (2, 0)):
        rows = permutation(12, 3, number)[5 * start :]
        cut = [rows[at : at + 5] for at in range(0, len(rows), 5)]
        wanted = [(part.tolist(), (part // 4).tolist()) for part in cut]
        assert epoch(source, number, start) == wanted
    assert data.class_names == ("ape", "bee", "cat")


@pytest.mark.parametrize("resident", [None, True])
def test_labels_of_folders_can_be_mixed(folder: Path, resident: Any) -> None:
    augment = Augment(layers=[keras.layers.MixUp()])
    data = image_folder(
        folder, size=(4, 4), batch_size=5, resident=resident, one_hot=True, augment=augment
    )
    assert data.map is not None
    labels = data.map((np.zeros((3, 4, 4, 3), np.float32), np.array([2, 0, 1])))[1]
    np.testing.assert_array_equal(labels, np.eye(3)[[2, 0, 1]])
    source = open_train(data, seed=3)
    with source.reading():
        images, mixed = source.read(source.cursor(0, 0), tf.constant(0, tf.int64), 5)
    assert images.shape == (5, 4, 4, 3)
    np.testing.assert_allclose(tf.reduce_sum(mixed, 1), np.ones(5), atol=1e-6)


def test_sizes_and_proportions(tmp_path: Path) -> None:
    wide = np.zeros((2, 6, 3), np.uint8)
    wide[:, 2:4] = 200  # a white middle
    write(tmp_path / "wide.png", wide)
    paths = [tmp_path / "wide.png"]
    crop = ImageFiles(2, 2, fit="crop")(paths)
    np.testing.assert_allclose(crop, np.full((1, 2, 2, 3), 200 / 255), rtol=1e-6)
    pad = ImageFiles(6, 6, channels=3, fit="pad")(paths)[0, :, :, 0] * 255
    assert pad[:2].max() == pad[4:].max() == 0
    np.testing.assert_allclose(pad[2:4], wide[:, :, 0], atol=1e-3)
    assert ImageFiles(1, 3, channels=1)(paths).shape == (1, 1, 3, 1)
    state = ImageFiles(2, 2, 1, "pad", ("a", "b")).state()
    assert ImageFiles.of_state(state) == ImageFiles(2, 2, 1, "pad", ("a", "b"))


def test_parts_lie_side_by_side_or_elsewhere(folder: Path, tmp_path: Path) -> None:
    for part in ("train", "valid"):
        write(tmp_path / "both" / part / "bee" / "1.png", np.zeros((2, 2, 3), np.uint8))
    data = image_folder(tmp_path / "both", size=(2, 2), test=None, predict=folder)
    assert (len(data.train), len(data.val), data.test, len(data.predict)) == (1, 1, None, 12)
    (images,) = open_eval(data, "predict", seed=0).values()
    assert images.spec(3).shape == (3, 2, 2, 3)
    with pytest.raises(UserError, match=r"'ape' is not a class[\s\S]*Choose one of: bee"):
        image_folder(tmp_path / "both", test=folder)


def test_a_damaged_image_stops_with_its_name_or_is_left_out(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damaged = folder / "bee" / "2.png"
    damaged.write_bytes(damaged.read_bytes()[:-30])
    data = image_folder(folder, size=(4, 4), batch_size=5)
    with pytest.raises(UserError, match=r"bee/2.png cannot be decoded[\s\S]*on_error=skip"):
        epoch(open_train(data, seed=1))
    with pytest.raises(UserError, match=r"bee/2.png cannot be decoded"):
        open_train(image_folder(folder, size=(4, 4), resident=True), seed=1)
    with caplog.at_level(logging.WARNING, "framework"):
        data = image_folder(folder, size=(4, 4), batch_size=5, shuffle=False, on_error="skip")
    assert "skipped 1 of 12 images" in caplog.text
    assert str(damaged) in caplog.text
    assert data.info["skipped"] == 1
    rows = [row for row in range(12) if row != 6]
    assert [v for values, _ in epoch(open_train(data, seed=1)) for v in values] == rows
    for path in (folder / "ape").iterdir():
        path.write_bytes(b"")
    with pytest.raises(UserError, match=r"no image of a class can be decoded: .*ape"):
        image_folder(folder, size=(4, 4), on_error="skip")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dir": "nowhere"}, "there is no folder"),
        ({"dir": None}, "there is no folder of images"),
        ({"fit": "croop"}, r"Did you mean 'crop'\?"),
        ({"on_error": "ignore"}, "Choose one of: stop, skip"),
        ({"size": (0, 4)}, "the size is 0 x 4"),
        ({"size": (4,)}, "the size is 0 x 0"),
        ({"channels": 4}, "channels is 4"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        image_folder(**{"dir": folder, **options})


def test_an_empty_class_is_refused(folder: Path) -> None:
    (folder / "dog").mkdir()
    (folder / "dog" / "notes.txt").write_text("later")
    with pytest.raises(UserError, match=r"'dog' has no images[\s\S]*1 other files"):
        image_folder(folder)
    with pytest.raises(UserError, match="there is no folder for any class"):
        image_folder(folder / "dog")


def test_kerass_own_loader_trains_as_a_stream(folder: Path) -> None:
    import keras

    class Means(Task):
        def build_model(self) -> keras.Model:
            return keras.Sequential([keras.Input((4, 4, 3)), keras.layers.Flatten(), self.dense])

        def train_step(self, batch: Any) -> Any:
            images, labels = batch
            return tf.reduce_mean(self.loss(labels, self.model(images / 255.0, training=True)))

        def eval_step(self, batch: Any) -> None:
            self.log("loss", self.train_step(batch))

        dense = keras.layers.Dense(3, activation="softmax")

    made = keras.utils.image_dataset_from_directory(
        folder, image_size=(4, 4), batch_size=5, seed=1, verbose=False
    )
    from framework import Data

    trainer = make_trainer(max_epochs=2)
    trainer.fit(Means(loss=keras.losses.SparseCategoricalCrossentropy()), Data(train=made))
    assert trainer.progress.step == 6
