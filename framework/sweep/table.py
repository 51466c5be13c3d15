"""The table of a sweep's jobs."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

from rich import box
from rich.console import Console
from rich.table import Table

from framework.errors import UserError, choice
from framework.sweep.claim import Standing
from framework.sweep.record import Objective
from framework.text.readable import main_metrics
from framework.text.tables import cell


def print_table(
    standings: Sequence[Standing], sweep_dir: Path, objective: Objective | None = None
) -> None:
    """Print a table of jobs: number, overrides, status, main metrics, directory.

    Args:
        standings: How the jobs stand.
        sweep_dir: The sweep directory.
        objective: What to rank by; without it, the order stays.
    """
    measured = [name for each in standings for name in each.metrics]
    names = main_metrics(measured, objective.metric if objective else None, most=3)
    if objective:
        standings = ranked(standings, objective)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title in ("job", "overrides", "status", *names, "directory"):
        table.add_column(
            cell(title), overflow="fold", justify="right" if title in names else "left"
        )
    for each in standings:
        values = [f"{each.metrics[n]:.4f}" if n in each.metrics else "" for n in names]
        where = each.run_dir
        if where and where.is_relative_to(sweep_dir):
            where = where.relative_to(sweep_dir)
        status = each.status + (f" ({each.code})" if each.code else "")
        place = str(where) if where else shorten(each.error, 60, placeholder="...")
        varied = " ".join(each.job.overrides)
        table.add_row(*map(cell, (each.job.number, varied, status, *values, place)))
    # In a file, lines may be longer than on an 80-column terminal.
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def ranked(standings: Sequence[Standing], objective: Objective) -> list[Standing]:
    """Return jobs from the best to the worst; those without a result last, by number."""
    sign = -1 if objective.direction == "max" else 1

    def rank(each: Standing) -> tuple[bool, float, int]:
        value = each.metrics.get(objective.metric, math.nan)
        counts = each.finished and not math.isnan(value)
        return (not counts, sign * value if counts else 0.0, each.job.number)

    return sorted(standings, key=rank)


def best_of(standings: Sequence[Standing], objective: Objective) -> Standing | None:
    """Return the best finished job, if any has a value to be ranked by."""
    there = [s for s in standings if s.finished and objective.metric in s.metrics]
    return ranked(there, objective)[0] if there else None


def check_measured(standings: Sequence[Standing], objective: Objective | None) -> None:
    """Refuse an objective that jobs have ended without measuring.

    Raises:
        UserError: There are finished jobs, and none of them has it; it lists what they measure.
    """
    done = [s for s in standings if s.finished]
    if objective is None or not done or any(objective.metric in s.metrics for s in done):
        return
    known = sorted({name for s in done for name in s.metrics})
    raise UserError(
        f"No run measures {objective.metric!r}",
        where=f"objective={objective.metric}",
        fix=choice(objective.metric, known),
    )
