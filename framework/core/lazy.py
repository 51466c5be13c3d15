"""Import the names of a package on first use."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from framework.core.quiet_import import quiet_import


def lazily(
    package: str, where: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], Any]]:
    """Return a package's `__getattr__` and `__dir__`, so that importing the package is cheap.

    Example:
        >>> __getattr__, __dir__ = lazily(__name__, {"EMA": "framework.callbacks.ema"})
    """

    def get(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        with quiet_import():
            return getattr(importlib.import_module(where[name]), name)

    return get, lambda: sorted(where)


def also_known_as(name: str, where: Mapping[str, str]) -> None:
    """Let names also be imported from a module that does not exist, such as an earlier one."""
    module = ModuleType(name, "An earlier place of names that are elsewhere now.")
    vars(module)["__getattr__"], vars(module)["__dir__"] = lazily(name, where)
    sys.modules[name] = module
