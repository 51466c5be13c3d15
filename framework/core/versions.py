"""The versions of the software that affects a result."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

_PACKAGES = ("keras-task-framework", "tensorflow", "keras", "numpy", "hydra-core")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect a result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
