"""LiteRT (`.tflite`), for phones and small machines."""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from framework.core.quiet_import import silent_libraries
from framework.serving import saved_model
from framework.serving.answers import Arrays
from framework.serving.quiet import quiet
from framework.serving.trained import Trained
from framework.serving.unsupported import unsupported


def write(trained: Trained, path: Path, about: str) -> None:
    """Write a file that needs LiteRT's own operations only."""
    with tempfile.TemporaryDirectory() as name:
        saved_model.write(trained, Path(name, "model"), about)
        converter = tf.lite.TFLiteConverter.from_saved_model(str(Path(name, "model")))
        with quiet(), silent_libraries():
            content, error = _converted(converter)
    if error is not None:
        kinds = re.findall(r"'?tf\.(\w+)'?(?: op|\()", str(error))
        raise unsupported("litert", kinds, trained, *reason_and_place(str(error))) from error
    path.write_bytes(content)
    with zipfile.ZipFile(path, "a") as archive:  # a model may have files appended to it
        archive.writestr("model.json", about)


def reason_and_place(said: str) -> tuple[str, str]:
    """Return what the converter complains of, and the operation's name if it says that.

    An operation may have a counterpart, though not for these types.
    """
    found = re.match(r'.*?error: loc.*?"([^"@]+)@[^"]*"\].*?\)+: (.+)', said)
    return (found[2], found[1]) if found else (said, "")


def _converted(converter: Any) -> tuple[bytes, Exception | None]:
    try:
        return converter.convert(), None
    except Exception as error:  # the converter has several kinds
        return b"", error


def read(path: Path, trained: Trained) -> Callable[[Arrays], Arrays]:
    """Return the function that such a file holds."""
    from ai_edge_litert.interpreter import Interpreter

    with silent_libraries():  # it says on standard error what it runs on
        interpreter = Interpreter(str(path))
        interpreter.allocate_tensors()
    runner = interpreter.get_signature_runner()
    return lambda given: dict(runner(**given))
