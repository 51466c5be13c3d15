"""Collect everything that affects a run's result, so that workers can compare it before step 1."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from framework.callback import Callback
from framework.callbacks.keras.wrapper import KerasCallback
from framework.callbacks.profiling import Throughput, Trace
from framework.compat import layers_within
from framework.config import TrainerConfig, options_with
from framework.core.versions import versions
from framework.devices.comparison import plain_json
from framework.run.default_callbacks import SHOWN
from framework.sources.source import Source

_MAY_DIFFER = (*SHOWN, Throughput, Trace, KerasCallback)


def of_run(stage: str, config: TrainerConfig, task: Any, callbacks: Sequence[Callback]) -> Any:
    """Return what is known of a run before anything is built: options, code and versions."""
    found: dict[str, Any] = {"stage": stage}
    local = options_with(local=True)
    found |= {f"trainer.{k}": v for k, v in asdict(config).items() if k not in local}
    found["trainer.accumulate"] = config.accumulate_by_epoch
    found["task"] = type(task).__qualname__
    found |= {f"{type(task).__name__}({k}=...)": v for k, v in _arguments(task)}
    for callback in callbacks:
        kind = type(callback)
        own = kind.__module__.startswith("framework.callbacks")
        if own and not isinstance(callback, _MAY_DIFFER):
            found[f"callback {kind.__name__}"] = True
            found |= {f"{kind.__name__}({k}=...)": v for k, v in _arguments(callback)}
    found |= {f"code of {name}": digest for name, digest in _code(type(task))}
    found |= {f"version of {name}": version for name, version in versions().items()}
    return plain_json(found)


def of_data(name: str, sources: Mapping[Any, Source]) -> Any:
    """Return what is known of open data sets: their batches, and a hash of the first batch."""
    found: dict[str, Any] = {}
    for key, source in sources.items():
        of = f"data.{name}" + (f".{key}" if isinstance(key, str) and key else "")
        leaves = tf.nest.flatten(source.first(), expand_composites=True)
        arrays = [np.asarray(leaf) for leaf in leaves]
        digest = hashlib.sha256()
        for array in arrays:
            digest.update(repr(array.tolist()).encode() if array.dtype == object else bytes(array))
        for part in ("map", "augment"):
            made = _of_function(getattr(source, f"_{part}", None))
            found |= {f"{of}: {part}.{k}": v for k, v in made.items()}
        found[f"{of}: rows"] = getattr(source, "count", None)
        found[f"{of}: batches in an epoch"] = source.steps
        found[f"{of}: shapes"] = [f"{a.dtype}{list(a.shape)}" for a in arrays]
        found[f"{of}: first batch"] = digest.hexdigest()[:16]
    return plain_json(found)


def of_built(models: Mapping[str, Any], optimizers: Mapping[str, Any]) -> Any:
    """Return the arguments of all layers and optimizers."""
    found: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        config = keras.optimizers.serialize(optimizer)["config"]
        found |= {f"optimizer {name}: {k}": v for k, v in config.items() if k != "name"}
    for name, model in models.items():
        for number, layer in enumerate(layers_within(model)):
            try:
                config = layer.get_config()
            except (NotImplementedError, TypeError, ValueError):
                continue  # a user-defined class: its code is compared instead
            of = f"{name} layer {number} ({type(layer).__name__})"
            found |= {f"{of}: {k}": v for k, v in config.items() if _is_plain(v) and k != "name"}
    return plain_json(found)


def _arguments(instance: Any) -> Iterator[tuple[str, Any]]:
    """Yield those constructor arguments that an object keeps and that are plain values."""
    for kind in type(instance).__mro__[:-1]:
        if "__init__" not in vars(kind):
            continue
        for name in list(inspect.signature(vars(kind)["__init__"]).parameters)[1:]:
            for attribute in (name, f"_{name}"):
                value = vars(instance).get(attribute, ...)
                made = _made(value)
                if made or _is_plain(value):
                    yield name, type(value).__name__ if made else value
                    yield from ((f"{name}.{k}", v) for k, v in made.items())
                    break


def _made(value: Any) -> dict[str, Any]:
    """Return the definition of an optimizer, a loss, or a function with arguments."""
    if isinstance(value, partial):
        found = dict(enumerate(value.args)) | value.keywords
        plain = {str(k): v if _is_plain(v) else _made(v) for k, v in found.items()}
        return {"function": getattr(value.func, "__qualname__", ""), **plain}
    if isinstance(value, (keras.Optimizer, keras.Loss)):
        # Some losses omit their arguments from their configuration.
        own = {k: v for k, v in vars(value).items() if isinstance(value, keras.Loss)}
        found = {k: v for k, v in own.items() if _is_plain(v)} | value.get_config()
        return {k: v for k, v in found.items() if k != "name"}
    if isinstance(value, keras.optimizers.schedules.LearningRateSchedule):
        return {**value.get_config()}
    return {}


def _of_function(value: Any) -> dict[str, Any]:
    """Return the definition of a batch function: its arguments and the variables of its closure."""
    if not inspect.isfunction(value):
        return _made(value)
    over = inspect.getclosurevars(value).nonlocals.items()
    found = {name: v if _is_plain(v) else _of_function(v) for name, v in over}
    return {"function": value.__qualname__, **found}


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    if isinstance(value, Mapping):
        return all(isinstance(k, (str, int)) and _is_plain(v) for k, v in value.items())
    if isinstance(value, str):
        return "/" not in value and "\\" not in value  # paths may differ between machines
    return value is None or isinstance(value, (bool, int, float))


def _code(kind: type) -> Iterator[tuple[str, str]]:
    """Yield a hash of each loaded module in the same package or folder as the task's own module."""
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if file is None:
        return
    depth = 0 if kind.__module__ == "__main__" else kind.__module__.count(".")
    home = Path(file).resolve().parents[max(depth - 1, 0)]
    for name, module in sorted(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path is None or not str(path).endswith(".py"):
            continue
        place = Path(path).resolve()
        if place.is_relative_to(home) and "site-packages" not in place.parts and place.is_file():
            yield name, hashlib.sha256(place.read_bytes()).hexdigest()[:16]
