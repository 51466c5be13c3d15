"""A run as its directory tells of it, whoever ran it and however it ended."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from framework.core.lock import LOCK, is_locked
from framework.core.safe_files import read_bytes
from framework.runs.option_file import OptionFile, scalar

RESULT, CONFIG, OVERRIDES, METRICS = "result.json", "config.yaml", "overrides.yaml", "metrics.csv"
_MAX_BYTES = 2**24
# What no two runs are compared by: where they are, and how they were started.
_NOT_COMPARED = {
    "run_dir",
    "sweep_dir",
    "mode",
    "resume",
    "trust",
    "debug",
    "verbosity",
    "jobs",
    "search",
}
_LEFT_OUT = {"checkpoints", "train", "val", "test", "pictures", "export"}


@dataclass
class RunRecord:
    """One run: what was chosen for it, what it measured, and how it ended.

    Attributes:
        path: The run directory.
        name: The directory relative to the one that was searched.
        status: `completed`, `stopped`, `pruned`, `failed`, `interrupted`, `running`, `killed`
            (neither ended nor running) or `broken`.
        overrides: What was chosen on the command line, by key, as values.
        metrics: The latest value of every metric by full name.
        best: The best checkpoint: `step`, `metric`, `value`; empty without one.
        result: The whole content of `result.json`.
        problem: Why it is broken, else empty.
    """

    path: Path
    name: str
    status: str
    overrides: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    problem: str = ""

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self.result.get("task") or self.overrides.get("task") or "")

    @property
    def seconds(self) -> float | None:
        """The wall time of training, over all resumes."""
        seconds = self.result.get("seconds")
        return float(seconds) if isinstance(seconds, (int, float)) else None

    @cached_property
    def _config(self) -> OptionFile:
        return OptionFile(self.path / CONFIG)

    def option(self, key: str) -> Any:
        """Return an option's value, such as `optimizer.learning_rate`, or None."""
        if key in self.overrides:
            return self.overrides[key]
        return self._config.get(key)

    def value(self, name: str) -> Any:
        """Return what a column shows: a metric, an option, or one of the run's facts."""
        facts = {"status": self.status, "task": self.task, "name": self.name, "time": self.seconds}
        if name in facts:
            return facts[name]
        if name == "best":
            return self.best.get("value")
        if name in self.metrics:
            return self.metrics[name]
        return None if "/" in name else self.option(name)


def find_runs(directory: Path) -> list[RunRecord]:
    """Return the runs in and below a directory, sorted by name.

    Example:
        >>> [run.name for run in find_runs(Path("runs/s"))]
        ['0_seed=0', '1_seed=1']

    Args:
        directory: Where to look. A run directory is one with a `result.json` or a `config.yaml`.
    """
    return [_read(path, directory) for path in _run_dirs(directory)]


def _run_dirs(directory: Path) -> Iterator[Path]:
    for folder, inside, files in os.walk(directory):
        if RESULT in files or OVERRIDES in files:
            inside.clear()
            yield Path(folder)
        inside[:] = sorted(
            (n for n in inside if n not in _LEFT_OUT and not n.startswith(".")), key=_natural
        )


def _natural(name: str) -> tuple[int, str]:
    number = name.partition("_")[0]
    return (int(number), name) if number.isdecimal() else (2**62, name)


def _read(path: Path, directory: Path) -> RunRecord:
    name = path.relative_to(directory).as_posix() if path != directory else path.name
    result, problem = _result(path / RESULT)
    ended = str(result.get("status", ""))
    status = "broken" if problem else ended or "killed"
    if is_locked(path / LOCK):
        status = "running"
    given = result.get("overrides")
    texts = given if isinstance(given, list) else _override_lines(path / OVERRIDES)
    metrics = result.get("metrics")
    numbers = metrics.items() if isinstance(metrics, Mapping) else ()
    best = result.get("best")
    return RunRecord(
        path=path,
        name=name,
        status=status,
        overrides=_overrides(texts),
        metrics={key: float(v) for key, v in numbers if isinstance(v, (int, float))},
        best=dict(best) if isinstance(best, Mapping) else {},
        result=result,
        problem=problem,
    )


def _result(path: Path) -> tuple[dict[str, Any], str]:
    try:
        content = json.loads(read_bytes(path, _MAX_BYTES))
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, RecursionError) as error:
        return {}, f"{path.name} cannot be read: {error}"
    return (content, "") if isinstance(content, dict) else ({}, f"{path.name} is not a result")


def _override_lines(path: Path) -> list[str]:
    try:
        lines = read_bytes(path, _MAX_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return []
    return [str(scalar(line[2:])) for line in lines if line.startswith("- ")]


def _overrides(texts: list[Any]) -> dict[str, Any]:
    found = {}
    for text in texts:
        key, equals, value = str(text).lstrip("+~").partition("=")
        key = key.partition("@")[0]
        if equals and key.partition(".")[0] not in _NOT_COMPARED and not key.startswith("hydra"):
            found[key] = scalar(value)
    return found
