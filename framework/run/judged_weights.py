"""Whose weights an evaluation judges, for the log and `result.json`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.checkpoint.store import CheckpointStore
from framework.core.models import models_of

if TYPE_CHECKING:
    from framework.task import Task

INITIAL: Mapping[str, Any] = {"weights": "initial", "step": 0}


def of_checkpoint(path: Path) -> dict[str, Any]:
    """Return what the weights of a checkpoint are.

    Example:
        >>> of_checkpoint(Path("runs/a/checkpoints/step-00001563"))
        {'weights': 'best', 'step': 1563, 'metric': 'val/loss', 'value': 2.61, 'run': '/…/runs/a'}

    Args:
        path: Its directory, which was read.

    Returns:
        `weights`: `best`, `last` or `step`; the step; for the best, the metric and its value;
        the directory of the `run`.
    """
    store = CheckpointStore(path.parent)
    step, best, steps = int(path.name.rpartition("-")[2]), store.best(), store.steps()
    of = {"run": os.path.realpath(path.parent.parent)}
    if best is not None and best["step"] == step:
        return {"weights": "best", **best, **of}
    return {"weights": "last" if steps and step == steps[-1] else "step", "step": step, **of}


@contextmanager
def noting_replaced(task: Task) -> Iterator[None]:
    """Note it if the body, the end of training, gives the task's models other weights.

    Such as those of the best epoch, by Keras's `EarlyStopping(restore_best_weights=True)`.
    """
    failed = task.trainer.status == "failed"  # weights may be NaN, which detect_anomaly objects to
    before = None if failed else _digest(task)
    yield
    if before is not None and _digest(task) != before:
        task.runtime.weights = {**(task.runtime.weights or INITIAL), "weights": "replaced"}


def _digest(task: Task) -> list[int]:
    weights = (v for model in models_of(task.model).values() for v in model.weights)
    return [zlib.crc32(np.asarray(v.numpy()).tobytes()) for v in weights]


def told(
    whose: Mapping[str, Any] | None, run: str | None, averages: Iterable[str]
) -> dict[str, Any]:
    """Return whose weights are judged, as `result.json` says it.

    Args:
        whose: What is known of them. None: nothing has been given to the task yet.
        run: The directory of the run that judges. Weights of another `run` are said to be of it:
            of None, if they were trained without a directory.
        averages: What takes their place; see `averaged`.
    """
    found = averaged(whose or INITIAL, averages)
    origin = found.pop("run", None)
    if whose is not None and run is not None and origin != run:
        found["run"] = origin
    return found


def averaged(whose: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the same with the averages that take the weights' place, such as `EMA`."""
    names = list(names)
    return {**whose, "average": ", ".join(names)} if names else dict(whose)


def in_words(whose: Mapping[str, Any]) -> str:
    """Return whose weights they are, for the log.

    Example:
        >>> in_words({"weights": "best", "step": 40, "metric": "val/loss", "value": 2.5})
        'the best weights by val/loss (2.5), of step 40'
    """
    kind, step = whose["weights"], f"{whose['step']:,}"
    text = {
        "initial": "the initial weights, as build_model made them",
        "last": f"the last weights, of step {step}",
        "step": f"the weights of step {step}",
        "replaced": f"the weights that a callback put in place at the end, step {step}",
    }.get(kind)
    if text is None:
        text = f"the best weights by {whose['metric']} ({whose['value']:.4g}), of step {step}"
    if "run" in whose:
        text += f" of {whose['run'] or 'a training without a run directory'}"
    return text + (f", averaged by {whose['average']}" if "average" in whose else "")
