"""Images in TensorBoard: what was logged is what its image plugin shows."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from event_files import board, logged, noise

from framework.errors import UserError
from framework.loggers.csv import CSVLogger


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "float16"])
def test_pixels_come_back_as_they_were(tmp_path: Path, channels: int, dtype: str) -> None:
    pixels = noise(3, 5, 7, channels)
    images = pixels if dtype == "uint8" else (pixels / 255).astype(dtype)
    logger = board(tmp_path)
    logger.log_images("samples", images, step=7)
    ((step, found),) = logged(tmp_path)["samples"]  # readable at once, before any close
    logger.close()
    assert step == 7
    np.testing.assert_array_equal(found, pixels)


def test_floats_are_clipped(tmp_path: Path) -> None:
    values = [-0.5, 0.0, 0.25, 1.0, 3.0, np.inf, -np.inf, np.nan]
    logger = board(tmp_path)
    logger.log_images("a", np.array(values, np.float32).reshape(1, 2, 4, 1), step=1)
    few = np.array(values[:4]).astype(ml_dtypes.bfloat16).reshape(1, 2, 2, 1)
    logger.log_images("b", few, step=1)
    logger.close()
    found = logged(tmp_path)
    assert found["a"][0][1].ravel().tolist() == [0, 0, 64, 255, 255, 255, 0, 0]
    assert found["b"][0][1].ravel().tolist() == [0, 0, 64, 255]


def test_the_stage_in_the_name_tells_the_run(tmp_path: Path) -> None:
    logger = board(tmp_path)
    logger.log_images("val/clean/pairs", noise(1, 4, 4, 1), step=3)
    logger.log_images("samples", noise(2, 4, 4, 1), step=3)
    logger.close()
    assert list(logged(tmp_path, "val")) == ["clean/pairs"]
    assert list(logged(tmp_path, "train")) == ["samples"]


def test_tensors_are_taken_too(tmp_path: Path) -> None:
    import tensorflow as tf

    logger = board(tmp_path)
    logger.log_images("a", tf.cast(noise(2, 3, 3, 3), tf.float32) / 255, step=1)
    logger.close()
    np.testing.assert_array_equal(logged(tmp_path)["a"][0][1], noise(2, 3, 3, 3))


def test_it_reads_as_what_tf_summary_writes(tmp_path: Path) -> None:
    import tensorflow as tf

    images = noise(2, 6, 5, 3)
    logger = board(tmp_path)
    logger.log_images("a", images, step=2)
    logger.close()
    with tf.summary.create_file_writer(str(tmp_path / "val")).as_default():
        tf.summary.image("a", images, step=2)
    ours, theirs = logged(tmp_path)["a"], logged(tmp_path, "val")["a"]
    assert ours[0][0] == theirs[0][0]
    np.testing.assert_array_equal(ours[0][1], theirs[0][1])


def test_continuing_drops_the_images_past_the_step(tmp_path: Path) -> None:
    images = noise(3, 1, 4, 4, 1)
    logger = board(tmp_path)
    for step in (50, 100, 150):
        logger.log_images("a", images[step // 50 - 1], step)
    logger.close()
    again = board(tmp_path, step=100)
    again.log_images("a", images[1], 100)  # measured once more: it is there already
    again.log_images("a", images[0], 150)
    again.close()
    found = logged(tmp_path)["a"]
    assert [step for step, _ in found] == [50, 100, 150]
    np.testing.assert_array_equal([each for _, each in found], images[[0, 1, 0]])


@pytest.mark.parametrize(
    ("images", "wanted"),
    [
        (np.zeros((28, 28), np.uint8), r"shape \[28, 28\]"),
        (np.zeros((5, 28, 28), np.uint8), r"shape \[5, 28, 28\]"),
        (np.zeros((5, 28, 28, 2)), r"shape \[5, 28, 28, 2\]"),
        (np.zeros((1, 5, 28, 28, 1)), r"shape \[1, 5, 28, 28, 1\]"),
        (np.zeros((0, 28, 28, 1)), r"shape \[0, 28, 28, 1\]"),
        (np.zeros((1, 4, 4, 1), np.int64), "int64"),
        (np.zeros((1, 4, 4, 1), bool), "bool"),
    ],
)
def test_what_are_no_images_is_refused(tmp_path: Path, images: np.ndarray, wanted: str) -> None:
    logger = board(tmp_path)
    with pytest.raises(UserError, match=wanted) as refused:
        logger.log_images("val/pairs", images, step=1)
    assert "val/pairs" in str(refused.value)
    logger.close()
    assert not list(tmp_path.rglob("*tfevents*"))


def test_the_csv_logger_ignores_images(tmp_path: Path) -> None:
    logger = CSVLogger()
    logger.open(tmp_path, 0)
    logger.log_images("samples", noise(1, 4, 4, 1), step=1)
    logger.log_metrics({"train/loss": 1.0}, step=1, epoch=1)
    logger.close()
    assert (tmp_path / "metrics.csv").read_text() == "step,epoch,train/loss\n1,1,1.0\n"
