"""What the tests of trackers share."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from places import ROOT, SUPPORT


def begin(words: Sequence[Any], directory: Path) -> subprocess.Popen[str]:
    """Start Python with these words; it finds the framework and the helpers."""
    paths = os.pathsep.join([str(ROOT), str(SUPPORT)])
    return subprocess.Popen(
        [sys.executable, *map(str, words)],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": paths, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def columns(path: Path) -> dict[str, list[tuple[int, float]]]:
    """The history of each metric in a metrics.csv."""
    with open(path) as file:
        rows = list(csv.DictReader(file))
    names = [name for name in rows[0] if name not in ("step", "epoch")]
    return {name: [(int(r["step"]), float(r[name])) for r in rows if r[name]] for name in names}
