"""Which weights an evaluation uses, for the log and `result.json`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from framework.checkpoint.store import CheckpointStore
from framework.core.models_by_name import models_of
from framework.task import Task

INITIAL: Mapping[str, Any] = {"weights": "initial", "step": 0}


def of_checkpoint(path: Path) -> dict[str, Any]:
    """Return a description of the weights in a checkpoint: `best`, `last` or of a `step`.

    Example:
        >>> of_checkpoint(Path("runs/a/checkpoints/step-00001563"))
        {'weights': 'best', 'step': 1563, 'metric': 'val/loss', 'value': 2.61, 'run': '/…/runs/a'}
    """
    store = CheckpointStore(path.parent)
    step, best, steps = int(path.name.rpartition("-")[2]), store.best(), store.steps()
    of = {"run": os.path.realpath(path.parent.parent)}
    if best is not None and best["step"] == step:
        return {"weights": "best", **best, **of}
    return {"weights": "last" if steps and step == steps[-1] else "step", "step": step, **of}


@contextmanager
def noting_replaced(task: Task) -> Iterator[None]:
    """Record it if the body, at the end of training, replaces the weights of the task's models.

    Keras's `EarlyStopping(restore_best_weights=True)` does so, for example.
    """
    # Of a failed run the weights may be NaN, which detect_anomaly would reject.
    before = None if task.trainer.status == "failed" else _digest(task)
    yield
    if before is not None and _digest(task) != before:
        task.runtime.weights = {**(task.runtime.weights or INITIAL), "weights": "replaced"}


def _digest(task: Task) -> list[int]:
    weights = (v for model in models_of(task.model).values() for v in model.weights)
    # Not `numpy()`, which copies.
    arrays = (np.asarray(tf.convert_to_tensor(v)) for v in weights)
    return [zlib.crc32(np.ascontiguousarray(a).reshape(-1).view(np.uint8).data) for a in arrays]


def described(
    about: Mapping[str, Any] | None, run: str | None, averages: Iterable[str]
) -> dict[str, Any]:
    """Return which weights are evaluated, in the form of `result.json`.

    Args:
        about: What is known of the weights. None: the task has not received any yet.
        run: The directory of the evaluating run. Weights from another `run` are marked with it, or
            with None if they were trained without a directory.
        averages: The averages that replace the weights; see `averaged`.
    """
    found = averaged(about or INITIAL, averages)
    origin = found.pop("run", None)
    if about is not None and run is not None and origin != run:
        found["run"] = origin
    return found


def averaged(about: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the description with the averages that replace the weights, such as `EMA`."""
    names = list(names)
    return {**about, "average": ", ".join(names)} if names else dict(about)


def in_words(about: Mapping[str, Any]) -> str:
    """Return the description of the weights in words, for the log.

    Example:
        >>> in_words({"weights": "best", "step": 40, "metric": "val/loss", "value": 2.5})
        'the best weights by val/loss (2.5), from step 40'
    """
    kind, step = about["weights"], f"{about['step']:,}"
    text = {
        "initial": "the initial weights, as build_model made them",
        "last": f"the last weights, from step {step}",
        "step": f"the weights from step {step}",
        "replaced": f"the weights that a callback set at the end, step {step}",
    }.get(kind)
    if text is None:
        text = f"the best weights by {about['metric']} ({about['value']:.4g}), from step {step}"
    if "run" in about:
        text += f" of {about['run'] or 'a run without a run directory'}"
    return text + (f", averaged by {about['average']}" if "average" in about else "")
