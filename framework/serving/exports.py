"""Export a trained task: write it in a format, load that again, and compare."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from framework.core.extras import require
from framework.core.safe_files import check_directory, replacing
from framework.core.user_code import user_code
from framework.core.versions import versions
from framework.errors import UserError, choice
from framework.serving import keras_file, litert_file, onnx_file, saved_model
from framework.serving.answers import Answers, Arrays
from framework.serving.trained import Trained
from framework.sources.open import open_eval
from framework.text.tables import table

LARGEST = 1e-5
"""The largest difference from the task's own predictions that an export may have."""
ABOUT = "model.json"
_log = logging.getLogger("framework")


@dataclass(frozen=True)
class Format:
    """How to write and read one kind of file.

    Attributes:
        file: The name of the file, or of the directory.
        write: Writes a trained task to a path, with facts to keep in the file, as text.
        read: From a path, and the task, to a function from arrays by name to arrays by name.
        needs: What is installed only on request: the module and the extra, if any.
    """

    file: str
    write: Callable[[Trained, Path, str], None]
    read: Callable[[Path, Trained], Callable[[Arrays], Arrays]]
    needs: Sequence[tuple[str, str]] = ()


FORMATS = {
    "keras": Format("model.keras", keras_file.write, keras_file.read),
    "saved_model": Format("saved_model", saved_model.write, saved_model.read),
    "litert": Format(
        "model.tflite", litert_file.write, litert_file.read, [("ai_edge_litert", "litert")]
    ),
    "onnx": Format(
        "model.onnx",
        onnx_file.write,
        onnx_file.read,
        [("tf2onnx", "onnx"), ("onnx", "onnx"), ("onnxruntime", "onnx")],
    ),
}


def export_trained(
    trained: Trained, formats: Sequence[str], directory: Path, inputs: Any
) -> dict[str, float]:
    """Write a trained task in some formats; see `framework.export`.

    Args:
        trained: The task.
        formats: Names of `FORMATS`.
        directory: Where the files go. They replace earlier ones, all of them or none.
        inputs: Real inputs, to compare the files with the task.

    Returns:
        The largest difference between a file's predictions and the task's, by format.
    """
    check_formats(formats)
    given = trained.answers.named(inputs)
    wanted = trained.answers(given)
    about = described(trained)
    text, rows, found = json.dumps(about, indent=1), [], {}
    directory.mkdir(parents=True, exist_ok=True)
    check_directory(directory)
    with ExitStack() as all_or_none:
        for name in formats:
            each = FORMATS[name]
            aside = all_or_none.enter_context(_aside(directory / each.file))
            each.write(trained, aside, text)
            model = each.read(aside, trained)
            found[name] = _difference(model, given, wanted, name, trained.answers)
            size = f"{_bytes(aside) / 1e6:.2f} MB"
            rows.append((each.file, size, f"{found[name]:.1e}"))
        all_or_none.enter_context(replacing(directory / ABOUT)).write(text.encode())
    count = len(next(iter(given.values())))
    _log.info(
        "Exported to %s, with the largest difference from the task on %d rows:\n%s",
        directory,
        count,
        table(("file", "size", "difference"), rows),
    )
    return found


def real_inputs(trained: Trained, data: Any = None) -> Arrays:
    """Return the first raw rows of a task's data to predict on, to compare an export with it.

    Args:
        trained: The task.
        data: A `Data`. Default: the task's own.

    Raises:
        UserError: There is no data.
    """
    with user_code(f"{type(trained.task).__name__}.build_data"):
        given = trained.task.build_data() if data is None else data
    sets = ("predict", "overfit") if given else ()  # else, of training, in its own order
    opened = (open_eval(given, name, seed=0) for name in sets)
    source = next((each for sources in opened for each in sources.values()), None)
    if source is None:
        raise UserError(
            "there are no real inputs to compare an export with",
            where="export",
            fix="Give some: framework.export(run_dir, inputs=...); or return data from "
            "Task.build_data.",
        )
    return trained.answers.taken_from(source.first())


def check_formats(formats: Sequence[str]) -> None:
    """Refuse a format that does not exist, or needs something that is not installed."""
    if not formats:
        fix = f"Give some of {', '.join(FORMATS)}: export.format=[keras,onnx]."
        raise UserError("there is no format to export to", where="export.format", fix=fix)
    for name in formats:
        if name not in FORMATS:
            fix = choice(str(name), FORMATS)
            raise UserError(f"there is no format {name!r}", where="export.format", fix=fix)
        for module, extra in FORMATS[name].needs:
            require(module, extra, what=f"the format {name}", where="export.format")


def described(trained: Trained) -> dict[str, Any]:
    """Return the facts that go with a model: what it takes and returns, and where it is from."""
    answers = trained.answers
    return {
        "task": type(trained.task).__name__,
        "weights": dict(trained.weights),
        "inputs": _specs(answers.inputs),
        "outputs": _specs(answers.outputs),
        "class_names": list(trained.class_names),
        "versions": versions(),
    }


def _specs(specs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"type": spec.dtype.name, "shape": ["rows", *spec.shape[1:].as_list()]}
        for name, spec in specs.items()
    }


def _difference(
    model: Callable[[Arrays], Arrays], given: Arrays, wanted: Arrays, name: str, answers: Answers
) -> float:
    """Return the largest difference of a model from the task, also on a single row."""
    size = answers.rows_at_once()
    first = {key: array[:size] for key, array in given.items()}
    largest = 0.0
    for rows in (min(size, len(next(iter(first.values())))), 1):
        made = model({key: array[:rows] for key, array in first.items()})
        for key, array in wanted.items():
            here, there = np.asarray(made[key], "f8"), np.asarray(array[:rows], "f8")
            if here.shape != there.shape:
                raise UserError(
                    f"the exported {name} returns {key} of shape {here.shape}, the task "
                    f"{there.shape}",
                    where=f"export.format={name}",
                    fix="Leave it out, and export to another format.",
                )
            largest = float(np.maximum(largest, np.max(np.abs(here - there))))  # NaN stays
    if not largest <= LARGEST:
        raise UserError(
            f"the exported {name} differs from the task by {largest:.1e}, more than {LARGEST:.0e}",
            where=f"export.format={name}",
            fix="Export it in full precision, trainer.precision=float32, or to another format.",
        )
    return largest


@contextmanager
def _aside(path: Path) -> Iterator[Path]:
    """Return a path beside another one, which it replaces if the body ends well."""
    for left in path.parent.glob(f".{path.name}-*"):  # of a process that was killed
        _remove(left)
    aside = path.with_name(f".{path.name}-{os.getpid()}") / path.name
    aside.parent.mkdir()
    try:
        yield aside
        if path.is_dir():  # a directory cannot be replaced in one move
            os.rename(path, aside.with_name("former"))
        os.replace(aside, path)
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(each.stat().st_size for each in files if each.is_file())
