"""Keeps converters from reporting their progress."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what TensorFlow, Keras and tf2onnx log in the body; errors are exceptions."""
    logs = [logging.getLogger(name) for name in ("tensorflow", "absl", "tf2onnx")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)
