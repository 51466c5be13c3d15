"""Import TensorFlow without its messages about oneDNN, CUDA and the CPU."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_import() -> Iterator[None]:
    """Hide what TensorFlow's C++ code writes when it is first imported; show it if that fails.

    Some of these messages are written before the level is read that would hide them, so standard
    error goes to a file meanwhile. Later errors are Python exceptions, and those that end the
    process are still written. A user's own `TF_CPP_MIN_LOG_LEVEL` stands.

    Example:
        >>> with quiet_import():
        ...     import tensorflow
    """
    if "tensorflow" in sys.modules:
        yield
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if sys.stderr is not None:
        sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except Exception:
            os.dup2(saved, 2)
            aside.seek(0)
            os.write(2, aside.read())
            raise
        finally:
            os.dup2(saved, 2)
            os.close(saved)
