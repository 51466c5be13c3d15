"""Packages that are installed only if somebody wants what they are for."""

from __future__ import annotations

import importlib.util

from framework.errors import UserError


def is_installed(module: str) -> bool:
    """Return whether a module can be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing, or was hidden
        return False


def installing(extra: str) -> str:
    """Return the command that installs an extra of this package."""
    return f'pip install "keras-task-framework[{extra}]"'


def require(module: str, extra: str, *, what: str, where: str) -> None:
    """Refuse something whose package is not installed, before anything starts.

    Example:
        >>> require("psutil", "stats", what="device_stats", where="callbacks.device_stats")

    Args:
        module: The module that is needed.
        extra: The extra of this package that installs it.
        what: What needs it, for the message.
        where: The option that asked for that.

    Raises:
        UserError: The module cannot be found.
    """
    if not is_installed(module):
        raise UserError(
            f"{what} needs {module}, which is not installed", where=where, fix=installing(extra)
        )
