"""Check the arguments of a `Trainer`, apart from its options, before anything starts."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from framework.callback import Callback
from framework.callbacks.keras.wrapper import KerasCallback
from framework.core.paths import local_path
from framework.errors import UserError
from framework.logger import Logger
from framework.task import Task

_KEPT = ("data", "optimizer", "loss", "metrics", "model", "trainer", "built_for")


def check_listeners(callbacks: Any, loggers: Any, run_dir: Any) -> Path | None:
    """Refuse callbacks, loggers or a run directory of the wrong type; return the run's path."""
    _check_all("callbacks", callbacks, Callback, keras.callbacks.Callback)
    _check_all("loggers", loggers, Logger)
    if run_dir is None:
        return None
    where = "Trainer(run_dir=...)"
    if not isinstance(run_dir, (str, os.PathLike)):
        raise UserError(f"run_dir is {run_dir!r}", where=where, fix="Give a path.")
    if not os.fspath(run_dir):
        raise UserError("run_dir is empty", where=where, fix="Give a path.")
    return local_path(run_dir, where)


def check_attributes(task: Task) -> None:
    """Refuse a task with methods named like attributes that hold values."""
    for name in _KEPT:
        own = next((vars(kind)[name] for kind in type(task).__mro__ if name in vars(kind)), None)
        if inspect.isfunction(own):
            raise UserError(
                f"{name} is a method of the task, but this attribute must hold a value",
                where=f"{type(task).__name__}.{name}",
                fix=f"Give it another name, such as compute_{name}.",
            )


def with_wrapped(callbacks: Sequence[Any]) -> list[Callback]:
    """Return the callbacks, with each Keras callback wrapped in a `KerasCallback`."""
    foreign = keras.callbacks.Callback
    return [KerasCallback(each) if isinstance(each, foreign) else each for each in callbacks]


def _check_all(name: str, given: Any, kind: type, *others: type) -> None:
    where = f"Trainer({name}=...)"
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise UserError(
            f"{name} is {given!r}, not a list",
            where=where,
            fix=f"Give a list of them: {name}=[...].",
        )
    for each in given:
        if isinstance(each, type) and issubclass(each, (kind, *others)):
            what, fix = f"the class {each.__name__}", f"Create an instance: {each.__name__}()."
        elif not isinstance(each, (kind, *others)):
            what, fix = repr(each), f"Give instances of subclasses of framework.{kind.__name__}."
        else:
            continue
        raise UserError(
            f"{name} holds {what}, which is not a {kind.__name__}", where=where, fix=fix
        )
