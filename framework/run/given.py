"""What a `Trainer` is given besides its options, checked before anything starts."""

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
    """Refuse callbacks, loggers or a run directory of another type; return the directory's path.

    Args:
        callbacks: Should be a sequence of `Callback` objects, or of Keras's.
        loggers: Should be a sequence of `Logger` objects.
        run_dir: Should be a path or None.

    Raises:
        UserError: One of them is not.
    """
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
    """Refuse a task with methods where the trainer and its constructor keep values.

    Raises:
        UserError: It has one.
    """
    for name in _KEPT:
        own = next((vars(kind)[name] for kind in type(task).__mro__ if name in vars(kind)), None)
        if inspect.isfunction(own):
            raise UserError(
                f"{name} is a method of the task, where its attribute of that name is kept",
                where=f"{type(task).__name__}.{name}",
                fix=f"Give it another name, such as compute_{name}.",
            )


def with_wrapped(callbacks: Sequence[Any]) -> list[Callback]:
    """Return callbacks, those of Keras each in a `KerasCallback`."""
    foreign = keras.callbacks.Callback
    return [KerasCallback(each) if isinstance(each, foreign) else each for each in callbacks]


def _check_all(name: str, given: Any, kind: type, *others: type) -> None:
    where = f"Trainer({name}=...)"
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise UserError(
            f"{name} is {given!r}, no list", where=where, fix=f"Give a list of them: {name}=[...]."
        )
    for each in given:
        if isinstance(each, type) and issubclass(each, (kind, *others)):
            what, fix = f"the class {each.__name__}", f"Make an object of it: {each.__name__}()."
        elif not isinstance(each, (kind, *others)):
            what, fix = repr(each), f"Give objects of subclasses of framework.{kind.__name__}."
        else:
            continue
        raise UserError(f"{name} holds {what}, which is no {kind.__name__}", where=where, fix=fix)
