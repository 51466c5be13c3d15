"""The facts about a run that its banner shows: model, data, and where it runs."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import Any

from framework.callback import RunView
from framework.core.models_by_name import models_of
from framework.text.escape import one_line
from framework.text.readable import size


def facts_of(run: RunView) -> dict[str, list[str]]:
    """Return the facts by title, each as parts that belong together.

    Example:
        >>> facts_of(trainer)["data"]
        ['mnist', 'SYNTHETIC', '54,000 train', '6,000 val', '10,000 test rows']
    """
    models = list(models_of(run.task.model).values())
    return {
        "model": [*_kinds(models), *_counts(models)],
        "data": [one_line(part) for part in _data(run)],
        "runs on": [*_places(run, models), run.config.precision, *_engine(run)],
    }


def count(weights: Iterable[Any]) -> int:
    """Return the number of elements in some weights."""
    return sum(math.prod(weight.shape) for weight in weights)


def kind(model: Any) -> str:
    """Return what kind of model it is: its class, or `functional model`."""
    import keras

    name = type(model).__name__
    return "functional model" if type(model) is keras.Model or name == "Functional" else name


def _kinds(models: list[Any]) -> list[str]:
    return [f"{len(models)} models"] if len(models) > 1 else [kind(each) for each in models]


def _counts(models: list[Any]) -> list[str]:
    trainable = _unique(weight for model in models for weight in model.trainable_weights)
    every = _unique(weight for model in models for weight in model.weights)
    total, learned = count(every), count(trainable)
    stored = sum(count([weight]) * _bits(weight.dtype) / 8 for weight in every)
    return [f"{total:,} parameters ({size(stored)})", f"{learned:,} trainable"]


def _unique(weights: Iterable[Any]) -> list[Any]:
    return list({id(weight): weight for weight in weights}.values())


def _bits(dtype: str) -> int:
    digits = re.search(r"\d+", str(dtype))
    return int(digits[0]) if digits else 8


def _data(run: RunView) -> list[str]:
    info = run.data_info
    source = str(info.get("source", "given"))
    sources = {"given": [], "synthetic": ["SYNTHETIC"]}.get(source, [f"from {source}"])
    name = [str(info["name"])] if info.get("name") else []
    rows = [
        f"{info[f'{stage}_rows']:,} {stage}"
        for stage in ("train", "val", "test")
        if info.get(f"{stage}_rows") is not None
    ]
    if info.get("train_rows") is None:
        steps = run.steps_per_epoch
        rows.insert(0, f"a stream of {steps:,} steps" if steps else "a stream")
    if rows[-1][0].isdigit():
        rows[-1] += " rows"
    return [*name, *sources, *rows]


def _engine(run: RunView) -> list[str]:
    reason = run.engine_reason
    return [f"engine {run.engine}" + (f": {reason}" if reason else "")]


def _places(run: RunView, models: Iterable[Any]) -> list[str]:
    several = [] if run.config.devices == 1 else [f"{run.config.devices} devices"]
    return [_device(run, models), *several]


def _device(run: RunView, models: Iterable[Any]) -> str:
    """Return the device that has the weights, since `auto` does not say which."""
    for model in models:
        for weight in model.weights:
            place = str(getattr(weight.value, "device", ""))
            return place.rpartition("device:")[2] or str(run.config.device)
    return str(run.config.device)
