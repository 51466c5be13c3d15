"""Sweeps: the directory of each job, and the table at the end."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from hydra.core.override_parser.overrides_parser import OverridesParser
from rich import box
from rich.console import Console
from rich.table import Table

from framework.cli.job import Outcome
from framework.cli.quoting import key_of
from framework.cli.report import has_curves
from framework.text.escape import one_line
from framework.text.tables import cell

_LONGEST = 100  # bytes, well below the limit of file systems


@dataclass(frozen=True)
class SweepJob:
    """One job of a sweep and its outcome."""

    number: int
    varied: tuple[str, ...]
    outcome: Outcome


def job_name(number: int, varied: Sequence[str]) -> str:
    """Return the name of a job's directory: its number and the overrides that vary.

    Example:
        >>> job_name(3, ["task=mnist_subclass", "seed=2"])
        '3_task=mnist_subclass_seed=2'
    """
    text = "_".join(varied)
    name = re.sub(r"[^\w.=+-]+", "_", text).strip("_")
    if len(os.fsencode(name)) > _LONGEST:
        start = name.encode("utf-8", "surrogateescape")[:_LONGEST].decode("utf-8", "ignore")
        name = f"{start}-{hashlib.sha256(os.fsencode(text)).hexdigest()[:8]}"
    return f"{number}_{name}" if name else str(number)


def fixed_keys(overrides: Sequence[str]) -> set[str]:
    """Return the keys for which the command line gives one value to all jobs.

    Example:
        >>> fixed_keys(["task=a,b", "seed=1"])
        {'seed'}
    """
    parser, fixed = OverridesParser.create(), set()
    for text in overrides:
        try:
            if not parser.parse_override(text).is_sweep_override():
                fixed.add(key_of(text))
        except Exception:
            continue  # Hydra will refuse it.
    return fixed


def planned_jobs(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what each job varies, in the order in which Hydra's basic sweeper runs them.

    Example:
        >>> planned_jobs(["task=a,b", "seed=1"])
        [('task=a',), ('task=b',)]
    """
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    varied = [
        [f"{o.get_key_element()}={value}" for value in o.sweep_string_iterator()]
        for o in parsed
        if o.is_sweep_override() and o.is_discrete_sweep()
    ]
    return list(itertools.product(*varied))


def print_table(jobs: Sequence[SweepJob], sweep_dir: Path) -> None:
    """Print a table of a sweep's jobs: number, overrides, status, main metrics, directory."""
    names = main_metrics([job.outcome for job in jobs])
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("job", "overrides", "status", *names, "directory"):
        table.add_column(
            cell(title), overflow="fold", justify="right" if title in names else "left"
        )
    for job in jobs:
        outcome = job.outcome
        values = [f"{outcome.metrics[n]:.4f}" if n in outcome.metrics else "" for n in names]
        where = outcome.run_dir
        if where and where.is_relative_to(sweep_dir):
            where = where.relative_to(sweep_dir)
        status = outcome.status + (f" ({outcome.code})" if outcome.code else "")
        place = str(where) if where else shorten(outcome.error, 60, placeholder="...")
        table.add_row(*map(cell, (job.number, " ".join(job.varied), status, *values, place)))
    # In a file, lines may be longer than on an 80-column terminal.
    Console(width=None if sys.stdout.isatty() else 140).print(table)
    shown = shlex.quote(one_line(sweep_dir))
    print(f"Sweep directory: {shown}")
    if any(job.outcome.run_dir and has_curves(job.outcome.run_dir) for job in jobs):
        print(f"To see the curves: tensorboard --logdir {shown}")


def main_metrics(outcomes: Sequence[Outcome], most: int = 3) -> list[str]:
    """Return the most informative metrics of these runs: of the test, else of validation."""
    for stage in ("test/", "val/", "train/"):
        found: list[str] = []
        for outcome in outcomes:
            found += [n for n in outcome.metrics if n.startswith(stage) and n not in found]
        if found:
            return found[:most]
    return []
