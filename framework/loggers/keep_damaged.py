"""Keeps a copy of a damaged log before it is rewritten."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

from framework.core.safe_files import ours

_log = logging.getLogger("framework")


def keep_aside(path: Path, kept: str) -> Path:
    """Copy a damaged log to a file next to it, and log a warning.

    Example:
        >>> keep_aside(Path("runs/a/metrics.csv"), "99 rows")
        PosixPath('runs/a/damaged-1-metrics.csv')

    Args:
        path: The log, which will be rewritten with its readable content.
        kept: Description of that content.

    Returns:
        Path of the copy.
    """
    number = 1
    name = path.name.replace("tfevents", "events")  # TensorBoard would read tfevents
    while (aside := path.with_name(f"damaged-{number}-{name}")).exists():
        number += 1
    with open(path, "rb", opener=ours) as file, open(aside, "xb", opener=ours) as copy:
        shutil.copyfileobj(file, copy)
    _log.warning("%s is damaged: kept a copy as %s; continuing with %s", path, aside.name, kept)
    return aside
