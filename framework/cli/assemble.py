"""Build the task, its parts, the callbacks and the loggers from the configuration."""

from __future__ import annotations

import functools
import importlib
import sys
import traceback
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, TypeGuard

from hydra.errors import InstantiationException
from hydra.utils import instantiate

from framework.callback import Callback, RunView
from framework.cli.groups.optimizer_choices import AUTO, in_range
from framework.cli.groups.root import GROUPS
from framework.cli.unused_choices import (
    PARTS,
    check_arguments,
    check_scheduled,
    check_used,
    parameters,
    place,
    short,
)
from framework.errors import SEE_TRACEBACK, TrainingFailed, UserError, choice, closest
from framework.task import Task


def build_task(config: Mapping[str, Any], chosen: Collection[str]) -> Task:
    """Build the task and pass it the parts that its constructor accepts.

    A part that the command line chooses but the task cannot accept is refused, because it would
    have no effect.
    """
    given = dict(config.get("task") or {})
    if "_target_" not in given:
        raise UserError(
            "The task has no _target_",
            where="conf/task/<name>.yaml",
            fix="Give it a line such as `_target_: tasks.mine.Mine`.",
        )
    cls = find_task(str(given.pop("_target_")))
    accepted, anything = parameters(cls)
    own = {name: build(value, f"task.{name}") for name, value in given.items() if name[0] != "_"}
    check_arguments(cls, own, accepted, anything)
    schedule = config.get("schedule") or {}
    if schedule:
        _check_node("schedule", schedule)
        check_scheduled(cls, config.get("optimizer"), own, accepted, anything)
    # Choosing nothing (`optimizer=none`) is valid for any task.
    check_used(cls, [name for name in chosen if config.get(name)], accepted, anything)
    parts = {}
    for name in PARTS:
        node = config.get(name)
        takes = name in accepted or (anything and (name != "model" or bool(node)))
        if node and takes and name not in own:
            _check_node(name, node)
            if name == "optimizer":
                node = scheduled(in_range(node), schedule)
            parts[name] = build_part(name, node)
    arguments = {**parts, **own}
    missing = [n for n, p in accepted.items() if p.default is p.empty and n not in arguments]
    if missing:
        hints = [f"{n}=<choice>" if n in PARTS else f"+task.{n}=<value>" for n in missing]
        raise UserError(
            f"{cls.__name__} needs {', '.join(missing)}",
            where=place(vars(cls).get("__init__", cls)),
            fix=f"Give {' '.join(hints)}, or set it in conf/task/<name>.yaml.",
        )
    with blaming(f"{cls.__name__}(...) failed"):
        task: Task = cls(**arguments)
    return task


def find_task(path: str) -> type[Task]:
    """Import the class with this dotted path and check that it is a complete `Task`."""
    module_name, _, name = path.rpartition(".")
    if not module_name:
        raise UserError(
            f"{path!r} is not a class in a module",
            where="task._target_",
            fix="Give the module and the class: tasks.mine.Mine.",
        )
    with blaming(f"{module_name} cannot be imported"):
        module = _import(module_name)
    where = f"task._target_, {module.__file__}"
    tasks = [n for n, v in vars(module).items() if _is_task(v) and v != Task]
    cls = getattr(module, name, None)
    if cls is None:
        fix = closest(name, tasks) if tasks else f"Write `class {name}(Task):` in it."
        raise UserError(f"There is no {name!r} in {module_name}", where=where, fix=fix)
    if not _is_task(cls):
        fix = f"Write it as `class {name}(framework.Task):`."
        raise UserError(f"{path} is not a Task", where=where, fix=fix)
    lacking = sorted(cls.__abstractmethods__)
    if lacking:
        raise UserError(
            f"{name} lacks {', '.join(lacking)}",
            where=place(cls),
            fix="Every task defines build_model, train_step and eval_step.",
        )
    return cls


def _is_task(value: Any) -> TypeGuard[type[Task]]:
    return isinstance(value, type) and issubclass(value, Task)


def build_part(name: str, node: Any) -> Any:
    """Build one of the `PARTS` of a task.

    Returns:
        For `data`, a function without arguments that loads the data; for `metrics`, a dict by
        name; for `model`, the hyperparameters as attributes (`model.dense_units`); otherwise the
        object that `_target_` creates.
    """
    if name == "data":
        return functools.partial(_load, node)
    if name == "metrics":
        return build_named(name, node)
    if name == "model":
        return _namespace(build(node, name))
    if name == "optimizer":
        if node.get("learning_rate") == AUTO:  # until the trainer has found one: the default
            node = {key: value for key, value in node.items() if key != "learning_rate"}
        _check_rate(node.get("learning_rate", 0.0))
    return build(node, name)


def scheduled(optimizer: Mapping[str, Any], schedule: Mapping[str, Any]) -> dict[str, Any]:
    """Return the optimizer's node with the schedule, if any, as its learning rate.

    If the schedule's own rate is null, it takes the optimizer's.
    """
    if not schedule:
        return dict(optimizer)
    rate = optimizer.get("learning_rate")
    if rate == AUTO:
        raise UserError(
            "auto finds a constant rate, which a schedule would replace",
            where="optimizer.learning_rate=auto",
            fix="Choose schedule=none; or run mode=lr_find, and give the rate that it suggests.",
        )
    if isinstance(rate, dict):
        raise UserError(
            "optimizer.learning_rate is already a schedule",
            where="schedule",
            fix="Give it a number, or choose schedule=none.",
        )
    rates = ("peak", "initial_learning_rate")
    unset = [name for name in rates if name in schedule and schedule[name] is None]
    if unset:
        _check_rate(rate)
    return {**optimizer, "learning_rate": {**schedule, **dict.fromkeys(unset, rate)}}


def build_named(group: str, node: Any) -> dict[str, Any]:
    """Build the members of a group with several choices, such as `callbacks`, by name."""
    if "_target_" in node:
        raise UserError(
            f"A choice of {group} sets {group} itself, not a node of its own",
            where=f"conf/{group}/<name>.yaml",
            fix=f"Begin the file with `# @package {group}.<name>`.",
        )
    for name, value in node.items():
        if not (isinstance(value, dict) and "_target_" in value):
            raise UserError(
                f"{group}.{name} has no _target_: nothing with that name is chosen",
                where=f"{group}.{name}",
                fix=f"{choice(name, GROUPS[group])} To choose one: {group}=[{name}].",
            )
    return {name: build(value, f"{group}.{name}") for name, value in node.items()}


def build(node: Any, where: str) -> Any:
    """Instantiate every node that has a `_target_`; return everything else as plain values."""
    if not isinstance(node, (dict, list)):
        return node
    try:
        return instantiate(node, _convert_="all")
    except InstantiationException as error:
        cause: BaseException = error.__cause__ or error
        while not isinstance(cause, UserError) and cause.__cause__:
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from None
        fix = "Correct its _target_ and arguments; --cfg job shows them."
        raise UserError(str(cause).splitlines()[0], where=where, fix=fix) from error


class ConfigText(Callback):
    """Log the resolved configuration, as YAML."""

    def __init__(self, text: str) -> None:
        self.text = text

    def on_fit_start(self, run: RunView) -> None:
        """Log the configuration once, at the first start of a run."""
        if not run.progress.step:
            run.log_text("config", self.text)


@contextmanager
def blaming(what: str) -> Iterator[None]:
    """Turn an exception in the user's code into a `UserError` that names its line."""
    try:
        yield
    except (UserError, TrainingFailed):
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{what}: {text}", where=own_line(error), fix=SEE_TRACEBACK) from error


def own_line(error: BaseException) -> str | None:
    """Return `file:line` of the user's last own line in an exception's traceback.

    The user's own code is any file outside this framework and outside the Python installation.
    """
    frames = traceback.extract_tb(error.__traceback__)
    library = str(Path(__file__).parents[1])
    own = [
        f for f in frames if not f.filename.startswith((library, "<", sys.prefix, sys.base_prefix))
    ]
    chosen = own or frames
    return short(f"{chosen[-1].filename}:{chosen[-1].lineno}") if chosen else None


def _check_node(name: str, node: Any) -> None:
    """Refuse options for a group in which nothing is chosen."""
    if name in ("data", "optimizer", "loss", "schedule") and not (
        isinstance(node, dict) and "_target_" in node
    ):
        raise UserError(
            f"Options of {name} are given, but nothing is chosen in it",
            where=name,
            fix=f"Choose one: {name}=<{'|'.join(n for n in GROUPS[name] if n != 'none')}>",
        )


def _check_rate(rate: Any) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, float, dict)):
        raise UserError(
            f"optimizer.learning_rate: {rate!r} is not a number",
            where="optimizer.learning_rate",
            fix="Give a number, auto to have one found, or a node with a _target_ for a schedule.",
        )


def _namespace(value: Any) -> Any:
    if isinstance(value, dict):
        return SimpleNamespace(**{str(k): _namespace(v) for k, v in value.items()})
    return value


def _load(node: dict[str, Any]) -> Any:
    data = build({**node, "_partial_": True}, "data")
    return data() if callable(data) else data


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if not (error.name and (name == error.name or name.startswith(f"{error.name}."))):
            raise UserError(
                f"{name} needs {error.name!r}, which is not installed",
                where=own_line(error),
                fix="Install it, or correct the import.",
            ) from error
        folder = Path(*name.split(".")[:-1])
        there = [p.stem for p in folder.glob("*.py") if p.stem != "__init__"]
        near = closest(name.rpartition(".")[2], there) if there else f"Write {folder / 'x.py'}."
        package = sys.modules.get(name.split(".")[0])
        elsewhere = getattr(package, "__file__", None)
        if elsewhere and folder.is_dir() and not Path(elsewhere).is_relative_to(Path.cwd()):
            near = f"{elsewhere} hides it: put an empty __init__.py into ./{folder}."
        raise UserError(
            f"There is no module {name!r}", where=f"task._target_, from {Path.cwd()}", fix=near
        ) from None
    except SyntaxError as error:
        raise UserError(
            f"{name} has a syntax error: {error.msg}",
            where=short(f"{error.filename}:{error.lineno}"),
            fix="Correct that line.",
        ) from error
