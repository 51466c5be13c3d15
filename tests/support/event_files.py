"""Loggers that are open, and what TensorBoard's files hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from framework.loggers.csv import CSVLogger
from framework.loggers.tensorboard import TensorBoardLogger


def logged(directory: Path, stage: str = "train") -> dict[str, list[tuple[int, np.ndarray]]]:
    """Return the images of one run by tag, as steps and decoded pixels."""
    import tensorflow as tf
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    path = directory / stage
    events = EventAccumulator(str(path), size_guidance={"tensors": 0})
    events.Reload()
    found: dict[str, list[tuple[int, np.ndarray]]] = {}
    for tag in events.Tags()["tensors"]:
        if events.SummaryMetadata(tag).plugin_data.plugin_name != "images":
            continue
        for event in events.Tensors(tag):
            width, height, *encoded = event.tensor_proto.string_val
            pixels = np.stack([tf.io.decode_png(each).numpy() for each in encoded])
            assert pixels.shape[1:3] == (int(height), int(width))
            found.setdefault(tag, []).append((event.step, pixels))
    return found


def board(directory: Path, step: int | None = 0) -> TensorBoardLogger:
    logger = TensorBoardLogger()
    logger.open(directory, step)
    return logger


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def opened(directory: Path, step: int | None = 0) -> CSVLogger:
    logger = CSVLogger()
    logger.open(directory, step)
    return logger


def read(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the scalars of one run, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [
            (e.step, tensor_util.make_ndarray(e.tensor_proto).item()) for e in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }
