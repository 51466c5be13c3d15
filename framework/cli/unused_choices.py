"""Check that a task accepts and uses each choice; refuse choices that would have no effect."""

from __future__ import annotations

import inspect
import os
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from framework.errors import UserError, closest
from framework.task import Task

PARTS = ("data", "optimizer", "loss", "metrics", "model")
"""The config nodes that a task's constructor may accept, by name."""

_LIBRARIES = ("keras", "tensorflow", "numpy", "framework")


def parameters(cls: type) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return a constructor's parameters by name, and whether it accepts any other keyword.

    `**parts` is assumed to be passed on to the next `__init__` among the base classes.
    """
    found: dict[str, inspect.Parameter] = {}
    for base in cls.__mro__:
        if "__init__" not in vars(base):
            continue
        own = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        for parameter in own:
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
                # A subclass may provide the arguments that its base class requires.
                found.setdefault(
                    parameter.name,
                    parameter if base is cls or not found else parameter.replace(default=None),
                )
        if not any(p.kind is p.VAR_KEYWORD for p in own):
            return found, False
    return found, True


def check_arguments(
    cls: type, own: Mapping[str, Any], accepted: Mapping[str, Any], anything: bool
) -> None:
    """Refuse an argument that the constructor does not accept."""
    for name in own:
        if name not in accepted and not anything:
            names = [n for n in accepted if n not in PARTS]
            raise UserError(
                f"{cls.__name__} takes no argument {name!r}",
                where=f"task.{name}, {place(cls)}",
                fix=closest(name, names) if names else "It has no arguments of its own.",
            )


def check_scheduled(
    cls: type, optimizer: Any, own: Mapping[str, Any], accepted: Mapping[str, Any], anything: bool
) -> None:
    """Refuse a schedule that would have no effect."""
    if not optimizer:
        raise UserError(
            "A schedule is chosen, but no optimizer",
            where="schedule",
            fix="Choose one: optimizer=adam.",
        )
    if "optimizer" in own or not ("optimizer" in accepted or anything):
        what = "has an optimizer of its own" if "optimizer" in own else "takes no optimizer"
        raise UserError(
            f"{cls.__name__} {what}: schedule= would have no effect",
            where=place(vars(cls).get("__init__", cls)),
            fix="Leave schedule out, or give its __init__ a parameter 'optimizer'.",
        )
    _check_method(cls, "schedule", "optimizer", "configure_optimizers")


def _check_method(cls: type, choice: str, part: str, method: str) -> None:
    """Refuse a choice that the task's own method does not use."""
    written = next(c for c in cls.__mro__ if method in vars(c)) is not Task
    if written and not {part, "super", "getattr"} & _names(getattr(cls, method)):
        raise UserError(
            f"{cls.__name__}.{method} does not use self.{part}: {choice}= would have no effect",
            where=place(getattr(cls, method)),
            fix=f"Leave {choice} out, or make {method} use self.{part}.",
        )


def check_used(
    cls: type, chosen: Collection[str], accepted: Mapping[str, Any], anything: bool
) -> None:
    """Refuse a choice on the command line that the task would not use."""
    for part in PARTS:
        if part not in chosen:
            continue
        if part not in accepted and not anything:
            raise UserError(
                f"{cls.__name__} takes no {part}: {part}= would have no effect",
                where=place(vars(cls).get("__init__", cls)),
                fix=f"Leave {part} out, or give its __init__ a parameter {part!r}.",
            )
        method = {"data": "build_data", "optimizer": "configure_optimizers"}.get(part)
        if method:
            _check_method(cls, part, part, method)
        if part in ("loss", "metrics") and not _mentions(cls, part):
            how = f"self.{part}" + (" or self.log_metrics" if part == "metrics" else "")
            raise UserError(
                f"{cls.__name__} never uses self.{part}: {part}= would have no effect",
                where=place(cls),
                fix=f"Leave {part} out, or use {how} in the steps.",
            )


def _mentions(cls: type, part: str) -> bool:
    """Whether the task's own code, or a function that it calls, uses `self.<part>`."""
    wanted = {part, "getattr", "log_metrics"} if part == "metrics" else {part, "getattr"}
    own = [c for c in cls.__mro__ if c not in Task.__mro__]
    members = [
        f
        for c in own
        for v in vars(c).values()
        for f in ([v.fget, v.fset] if isinstance(v, property) else [getattr(v, "__func__", v)])
    ]
    members = [getattr(f, "python_function", f) for f in members]  # unwrap a tf.function
    functions = [f for f in members if inspect.isroutine(f)]
    named = {
        n for f in functions if f.__name__ == "__init__" for n in inspect.signature(f).parameters
    }
    return part in named or any(wanted & _names(f) for f in _reached(functions))


def _reached(functions: Iterable[Any], depth: int = 3) -> list[Any]:
    """Return the functions, and the Python functions of their modules that they call by name."""
    found = {id(f): f for f in functions}
    for function in list(found.values()) if depth else ():
        known = getattr(inspect.unwrap(function), "__globals__", {})
        names = _names(function)
        modules = [known[n] for n in names if isinstance(known.get(n), ModuleType)]
        modules = [m for m in modules if m.__name__.split(".")[0] not in _LIBRARIES]
        called = [known.get(n) for n in names] + [vars(m).get(n) for m in modules for n in names]
        found |= {id(f): f for f in _reached(filter(inspect.isfunction, called), depth - 1)}
    return list(found.values())


def _names(function: Any) -> set[str]:
    code = getattr(inspect.unwrap(function), "__code__", None)
    found: set[str] = set()
    pending = [code] if code else []
    while pending:
        code = pending.pop()
        found.update(code.co_names)
        pending.extend(c for c in code.co_consts if inspect.iscode(c))
    return found


def short(path: str) -> str:
    """Return a path relative to the working directory if it lies below it."""
    return path.removeprefix(f"{Path.cwd()}{os.sep}")


def place(thing: Any) -> str | None:
    """Return `file:line` of a class or function, if its source is available."""
    try:
        return short(f"{inspect.getsourcefile(thing)}:{inspect.getsourcelines(thing)[1]}")
    except (OSError, TypeError):
        return None
