"""`result.json`: the outcome of a run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from framework.config import TrainerConfig
from framework.core.progress import Progress
from framework.core.safe_files import read_bytes, replacing
from framework.core.versions import versions
from framework.text.escape import hidden

_MAX_BYTES = 2**24  # bytes


def describe(config: TrainerConfig, progress: Progress) -> dict[str, Any]:
    """Return the facts about a run from its options and its progress."""
    return {
        "seed": config.seed,
        "epoch": progress.epoch,
        "global_step": progress.step,
        "engine": config.engine,
        "precision": config.precision,
        "seconds": round(progress.seconds, 3),
        "versions": versions(),
    }


def write_result(path: Path, result: dict[str, Any]) -> None:
    """Write a result as strict JSON, atomically; NaN and infinity become null."""
    text = json.dumps(_strict(result), indent=2, allow_nan=False) + "\n"
    with replacing(path) as file:
        file.write(text.encode())


def read_metrics(path: Path) -> dict[str, float]:
    """Return the metrics in a result file; empty if there is no such file."""
    try:
        metrics = json.loads(read_bytes(path, _MAX_BYTES))["metrics"]
        return {name: value for name, value in metrics.items() if value is not None}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def laid_over(path: Path, result: dict[str, Any], *, whole: bool) -> dict[str, Any]:
    """Return a result merged into the one that an earlier run left in its file, if any.

    Unless the run trained (`whole`), the training entries of the file stay, and only metrics and
    the rows they are based on are added.
    """
    try:
        earlier = json.loads(read_bytes(path, _MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return result
    if not isinstance(earlier, dict):
        return result
    for key in ("metrics", "data"):
        if not isinstance(earlier.get(key, {}), dict):
            del earlier[key]
    metrics = {**earlier.get("metrics", {}), **result["metrics"]}
    weights = {**earlier.get("weights", {}), **result["weights"]}
    if whole:
        # A run that was already complete measures no speed, and a resumed one picks no engine.
        measured = ("examples_per_second", "time_in_steps", "tuning", "found_rates")
        kept = {key: result.get(key) or earlier.get(key) for key in measured}
        return {**result, "metrics": metrics, "weights": weights, **kept}
    rows = {key: count for key, count in result["data"].items() if key.endswith("_rows")}
    data = {**result["data"], **earlier.get("data", {}), **(rows if result["metrics"] else {})}
    return {**result, **earlier, "metrics": metrics, "weights": weights, "data": data}


def _strict(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _strict(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (int, float, bool, type(None))):
        return value
    return hidden(str(value))
