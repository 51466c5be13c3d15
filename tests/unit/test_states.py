"""Every class with a state: none is forgotten, each survives the disk."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import framework
from framework import Every
from framework.callbacks.checkpoint import Checkpoint
from framework.callbacks.early_stopping import EarlyStopping
from framework.callbacks.keras.wrapper import KerasCallback
from framework.callbacks.reduce_on_plateau import ReduceOnPlateau
from framework.checkpoint.store import CheckpointStore
from framework.config import TrainerConfig
from framework.core.progress import Progress
from framework.run.stop_condition import StopCondition
from framework.run.wakeup_plan import Triggers
from framework.step.averaging import Average
from framework.step.optimizers import Optimizers
from framework.step.precision import LossScale


def stateful_classes() -> set[type]:
    found = set()
    for module in pkgutil.walk_packages(framework.__path__, "framework."):
        if "__main__" in module.name:
            continue
        for _, each in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            own = {"state", "load_state"} <= set(vars(each)) and not inspect.isabstract(each)
            own = own and not getattr(each, "_is_protocol", False)
            if own and each.__module__.startswith("framework."):
                found.add(each)
    return found


def _variables(seed: int) -> list[keras.Variable]:
    random = np.random.RandomState(seed)
    return [keras.Variable(random.randn(3).astype("f4"), name=f"v{i}") for i in range(2)]


def _changed(thing: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(thing, name, value)
    return thing


def _scale(value: float) -> LossScale:
    scale = LossScale(value)
    scale.good_steps.assign(7)
    return scale


def _optimizers(steps: int) -> Optimizers:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    made = Optimizers(keras.optimizers.Adam(0.1), {"model": model})
    made.build()
    for _ in range(steps):
        adam = next(iter(made)).optimizer
        adam.apply([tf.ones_like(v) for v in model.trainable_variables])
    return made


def _timers(elapsed: float) -> Triggers:
    timers = Triggers({"val": Every("10min"), "log": Every("5st")}, lambda: 100.0)
    timers["val"].elapsed = elapsed
    return timers


def _average(seed: int) -> Average:
    average = Average(_variables(0), decay=0.9)
    for copy, value in zip(average.copies, _variables(seed), strict=True):
        copy.assign(value)
    return average


def _keras(waited: int) -> KerasCallback:
    callback = KerasCallback(keras.callbacks.EarlyStopping("loss"))
    callback.callback.wait = waited
    return callback


# Each: something that has changed, and the same thing as it is made.
PAIRS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "Progress": lambda: (Progress(1, 2, 3, 4, 5.5, "log"), Progress()),
    "StopCondition": lambda: (
        _changed(StopCondition(TrainerConfig()), _time_began=3.5),
        StopCondition(TrainerConfig()),
    ),
    "Triggers": lambda: (_timers(70.0), _timers(0.0)),
    "LossScale": lambda: (_scale(64.0), LossScale()),
    "Optimizers": lambda: (_optimizers(3), _optimizers(0)),
    "Average": lambda: (_average(5), _average(0)),
    "EarlyStopping": lambda: (_changed(EarlyStopping(), best=0.5, waited=2), EarlyStopping()),
    "Checkpoint": lambda: (_changed(Checkpoint(), _kept=4), Checkpoint()),
    "KerasCallback": lambda: (_keras(3), _keras(0)),
    "ReduceOnPlateau": lambda: (
        _changed(ReduceOnPlateau(), best=0.25, waited=3),
        ReduceOnPlateau(),
    ),
}
# What test_resume.py and test_checkpointed_runs.py take to pieces and put together again.
IN_RUNS = {
    "Callback", "Hooks", "MetricLog", "Epochs", "Components", "Trainer", "Run", "Fitting",
    "TaskState", "Patience", "EMA", "SWA", "Attributes", "KerasCallback",
    "FineTuning", "Histograms", "Timer", "Pruning",
}  # fmt: skip


def test_no_stateful_class_is_forgotten() -> None:
    assert {each.__name__ for each in stateful_classes()} - IN_RUNS - PAIRS.keys() == set()


def leaves(tree: Any) -> list[str]:
    """What a state holds, whatever Keras has numbered the names of variables by."""
    return [repr(leaf) for leaf in keras.tree.flatten(tree)]


@pytest.mark.parametrize("name", sorted(PAIRS.keys() - {"KerasCallback"}))
def test_a_state_survives_the_disk(name: str, tmp_path: Path) -> None:
    changed, fresh = PAIRS[name]()
    expected = leaves(changed.state())
    assert leaves(fresh.state()) != expected, "the test would show nothing"
    store = CheckpointStore(tmp_path)
    fresh.load_state(store.load(store.save(1, changed.state())))
    assert leaves(fresh.state()) == expected
