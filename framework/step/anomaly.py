"""Names the operation that produced NaN or infinity."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from framework.errors import TrainingFailed

_FOUND = re.compile(r"Detected Infinity or NaN in output \d+ of [-\w]+ op \"(\w+)\"")
_SHAPE = re.compile(r"dtype: <dtype: '(\w+)'>\n\s*shape: (\(.*?\))")
_FRAME = re.compile(r"\+ (\S+) \(L(\d+)\) (\S+)")
_OURS = str(Path(__file__).parents[1])


@contextmanager
def anomalies_detected() -> Iterator[None]:
    """Make TensorFlow check the results of all operations that are traced or run in the body."""
    tf.debugging.enable_check_numerics(stack_height_limit=100, path_length_limit=1000)
    try:
        yield
    finally:
        tf.debugging.disable_check_numerics()


def explain_anomaly(error: Exception, when: str) -> Exception:
    """Convert an error of these checks to `TrainingFailed`; return other errors unchanged."""
    text = str(error)
    found = _FOUND.search(text)
    if not isinstance(error, tf.errors.InvalidArgumentError) or not found:
        return error
    shape = _SHAPE.search(text, found.end())
    of = f", {shape[1]} of shape {shape[2]}," if shape else ""
    frames = _FRAME.findall(text, found.end())
    for frame in traceback.extract_tb(error.__traceback__) if not frames else ():  # run in Python
        frames.append((frame.filename, str(frame.lineno), frame.name))
    own = [f for f in frames if "site-packages" not in f[0] and not f[0].startswith(_OURS)]
    file, line, function = (own or frames or [("", "", "")])[-1]
    return TrainingFailed(
        f"the result of {found[1]}{of} became NaN or infinite {when}",
        where=f"{file}:{line}, in {function}" if file else None,
        fix="Keep its input in the valid range, such as tf.math.log(x + 1e-7), or lower the "
        "learning rate. An intended infinity, such as in a mask, is reported too.",
    )
