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

from framework.core.statuses import PRUNED
from framework.errors import UserError, choice
from framework.sweep.claim import Standing
from framework.sweep.record import Objective
from framework.text.readable import main_metrics, short_numbers
from framework.text.tables import cell


def print_table(
    standings: Sequence[Standing], sweep_dir: Path, objectives: Sequence[Objective] = ()
) -> None:
    """Print a table of jobs: number, overrides, status, main metrics, directory.

    Args:
        standings: How the jobs stand.
        sweep_dir: The sweep directory.
        objectives: What to rank by; without any, the order stays.
    """
    measured = [name for each in standings for name in each.metrics]
    aims = [objective.metric for objective in objectives]
    names = main_metrics(measured, aims, most=max(3, len(aims)))
    if objectives:
        standings = ranked(standings, objectives)
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
        varied = short_numbers(" ".join(each.job.overrides))
        table.add_row(*map(cell, (each.job.number, varied, status, *values, place)))
    # In a file, lines may be longer than on an 80-column terminal.
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def ranked(standings: Sequence[Standing], objectives: Sequence[Objective]) -> list[Standing]:
    """Return jobs from the best to the worst; those without a result last, by number.

    With several objectives, the Pareto front comes first.
    """
    front = best_of(standings, objectives)

    def rank(each: Standing) -> tuple[bool, bool, tuple[float, ...], int]:
        value = _value(each, objectives) or ()
        return (not value, each not in front, value, each.job.number)

    return sorted(standings, key=rank)


def best_of(standings: Sequence[Standing], objectives: Sequence[Objective]) -> list[Standing]:
    """Return the Pareto front: the jobs that no other beats, by number.

    With one objective, that is the best job. Of jobs with the same values, the first one counts.
    """
    found: dict[tuple[float, ...], Standing] = {}
    for each in sorted(standings, key=lambda each: each.job.number):
        if value := _value(each, objectives):
            found.setdefault(value, each)
    return [each for value, each in found.items() if not any(_beats(v, value) for v in found)]


def values(each: Standing, objectives: Sequence[Objective]) -> str:
    """Return what a job measured of the objectives, in words."""
    return ", ".join(f"{o.metric} {each.metrics[o.metric]:.4f}" for o in objectives)


def _value(each: Standing, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    """Return a job's values, of which less is better; None if it has no result."""
    values = [
        each.metrics.get(o.metric, math.nan) * (-1 if o.direction == "max" else 1)
        for o in objectives
    ]
    complete = each.finished and each.status != PRUNED
    return None if not complete or any(map(math.isnan, values)) else tuple(values)


def _beats(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))


def check_measured(standings: Sequence[Standing], objectives: Sequence[Objective]) -> None:
    """Refuse an objective that jobs have ended without measuring.

    Raises:
        UserError: There are finished jobs, and none of them has it; it lists what they measure.
    """
    done = [s for s in standings if s.finished]
    known = sorted({name for s in done for name in s.metrics})
    for objective in objectives if done else ():
        if objective.metric not in known:
            raise UserError(
                f"No run measures {objective.metric!r}",
                where=f"objective={objective.metric}",
                fix=choice(objective.metric, known),
            )
