"""Whose weights an evaluation judges, for the log and `result.json`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from framework.checkpoint.store import CheckpointStore

INITIAL: Mapping[str, Any] = {"weights": "initial", "step": 0}


def of_checkpoint(path: Path) -> dict[str, Any]:
    """Return what the weights of a checkpoint are.

    Example:
        >>> of_checkpoint(Path("runs/a/checkpoints/step-00001563"))
        {'weights': 'best', 'step': 1563, 'metric': 'val/loss', 'value': 2.61}

    Args:
        path: Its directory, which was read.

    Returns:
        `weights`: `best`, `last` or `step`; the step; for the best, the metric and its value.
    """
    store = CheckpointStore(path.parent)
    step, best, steps = int(path.name.rpartition("-")[2]), store.best(), store.steps()
    if best is not None and best["step"] == step:
        return {"weights": "best", **best}
    return {"weights": "last" if steps and step == steps[-1] else "step", "step": step}


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
    }.get(kind)
    if text is None:
        text = f"the best weights by {whose['metric']} ({whose['value']:.4g}), of step {step}"
    return text + (f", averaged by {whose['average']}" if "average" in whose else "")
