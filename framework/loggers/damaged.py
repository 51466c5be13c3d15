"""Logs that a disk, or somebody, has damaged: said, kept aside, and read as far as possible."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from framework.core.files import ours

_log = logging.getLogger("framework")


def keep_aside(path: Path, kept: str) -> Path:
    """Copy a damaged log beside itself, and say so.

    Example:
        >>> keep_aside(Path("runs/a/metrics.csv"), "99 rows")
        PosixPath('runs/a/damaged-1-metrics.csv')

    Args:
        path: The log, which is about to be written anew with what can be read of it.
        kept: What that is.

    Returns:
        Where the copy is.
    """
    number = 1
    name = path.name.replace("tfevents", "events")  # which TensorBoard would read
    while (aside := path.with_name(f"damaged-{number}-{name}")).exists():
        number += 1
    with open(path, "rb", opener=ours) as file, open(aside, "xb", opener=ours) as copy:
        shutil.copyfileobj(file, copy)
    _log.warning("%s is damaged: it is kept as %s; goes on with %s", path, aside.name, kept)
    return aside
