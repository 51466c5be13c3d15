"""Arranges runs as a table: what differs, what was measured, which is best."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from framework.core.direction import by_name
from framework.core.statuses import PRUNED
from framework.errors import UserError, choice
from framework.runs.finished_run import RunRecord
from framework.text.readable import main_metrics

_MOST_METRICS = 6


@dataclass
class Row:
    """One run, or several that differ only in what they were grouped over.

    Attributes:
        runs: The runs.
        options: Their common options by key, of those that differ between rows.
        metrics: The mean of each metric over the runs.
        spread: The standard deviation of each metric; only of several runs.
        best: Whether it is the best row by the objective.
    """

    runs: list[RunRecord]
    options: dict[str, Any]
    metrics: dict[str, float]
    spread: dict[str, float] = field(default_factory=dict)
    best: bool = False

    @property
    def status(self) -> str:
        """The status of the runs: one word if all agree, else each with its number."""
        counts: dict[str, int] = {}
        for run in self.runs:
            counts[run.status] = counts.get(run.status, 0) + 1
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{count} {status}" for status, count in counts.items())

    @property
    def seconds(self) -> float | None:
        """The mean time of training."""
        known = [run.seconds for run in self.runs if run.seconds is not None]
        return statistics.fmean(known) if known else None


@dataclass
class Comparison:
    """The table of a comparison.

    Attributes:
        rows: The rows, in order.
        options: The options that differ between runs: the columns before the metrics.
        metrics: The metrics that are shown.
        objective: The metric that ranks the rows; None if there is none to rank by.
        direction: `min` or `max`.
    """

    rows: list[Row]
    options: list[str]
    metrics: list[str]
    objective: str | None
    direction: str | None


def compare(
    runs: Sequence[RunRecord],
    *,
    group: Sequence[str] = (),
    objective: str | None = None,
    direction: str | None = None,
    sort: str | None = None,
    columns: Sequence[str] = (),
) -> Comparison:
    """Compare runs.

    Args:
        runs: The runs.
        group: Options to average over, such as `seed`.
        objective: The metric to rank by. Default: what most runs' best checkpoint is judged by.
        direction: `min` or `max`. Default: told by the metric's name.
        sort: The column to sort by, from best to worst for metrics; `-name` reverses. Default: by
            the objective if there is one, else by name.
        columns: The options and metrics to show. Default: the options that differ and the main
            metrics, those of validation before those of the test.

    Raises:
        UserError: No run has the objective or the column, or the direction is unknown.
    """
    objective = _objective(runs, objective)
    direction = _direction(objective, direction)
    options = [key for key in differing(runs) if key not in group]
    measured = (name for run in runs for name in run.metrics)
    metrics = main_metrics(measured, [objective] if objective else [], _MOST_METRICS)
    if columns:
        known = {name for run in runs for name in run.metrics}
        for name in columns:
            if name not in known and all(run.option(name) is None for run in runs):
                raise _unknown(name, [*known, *differing(runs)], "--columns")
        metrics = [name for name in columns if name in known]
        options = [name for name in columns if name not in known]
    rows = _rows(runs, options, group, {*metrics, *([objective] if objective else [])})
    ended = [row for row in rows if row.status != PRUNED]
    ranked = [row for row in ended if math.isfinite(row.metrics.get(objective or "", math.nan))]
    if ranked and objective:
        pick = min if direction == "min" else max
        pick(ranked, key=lambda row: row.metrics[objective]).best = True
    by = sort or objective
    if by:
        _sort(rows, by, objective, direction, runs)
    return Comparison(rows, options, metrics, objective, direction)


def differing(runs: Sequence[RunRecord]) -> list[str]:
    """Return the overrides whose values are not the same in all runs, in order of appearance."""
    keys = dict.fromkeys(key for run in runs for key in run.overrides)
    found = []
    for key in keys:
        if any(key not in run.overrides for run in runs):
            values = {repr(run.option(key)) for run in runs}
        else:
            values = {repr(run.overrides[key]) for run in runs}
        if len(values) > 1:
            found.append(key)
    return found


def _objective(runs: Sequence[RunRecord], given: str | None) -> str | None:
    known = {name for run in runs for name in run.metrics}
    if given is not None:
        if given not in known:
            raise _unknown(given, known, "--objective")
        return given
    judged = [str(run.best["metric"]) for run in runs if run.best.get("metric") in known]
    return max(dict.fromkeys(judged), key=judged.count, default=None)


def _direction(objective: str | None, given: str | None) -> str | None:
    direction = given or (by_name(objective) if objective else None)
    if objective and direction is None:
        raise UserError(
            f"cannot tell whether a higher or a lower {objective} is better",
            where="--objective",
            fix="Give --direction min or --direction max.",
        )
    return direction


def _rows(
    runs: Sequence[RunRecord], options: list[str], group: Sequence[str], metrics: Iterable[str]
) -> list[Row]:
    groups: dict[Any, list[RunRecord]] = {}
    for number, run in enumerate(runs):
        values = tuple(repr(run.option(key)) for key in [*options, "task"])
        groups.setdefault(values if group else number, []).append(run)
    rows = []
    for members in groups.values():
        row = Row(members, {key: members[0].option(key) for key in options}, {})
        for name in metrics:
            found = [run.metrics[name] for run in members if name in run.metrics]
            if found:
                row.metrics[name] = statistics.fmean(found)
            if len(found) > 1:
                row.spread[name] = statistics.stdev(found)
        rows.append(row)
    return rows


def _sort(
    rows: list[Row],
    by: str,
    objective: str | None,
    direction: str | None,
    runs: Sequence[RunRecord],
) -> None:
    name = by.lstrip("-")
    if all(run.value(name) is None for run in runs):
        raise _unknown(name, known_columns(runs), "--sort")
    ahead = direction if name == objective else by_name(name) if "/" in name else "min"

    def value(row: Row) -> Any:
        return row.metrics.get(name, row.runs[0].value(name))

    there = [row for row in rows if value(row) is not None and _finite(value(row))]
    rest = [row for row in rows if row not in there]
    numbers = all(isinstance(value(row), (int, float)) for row in there)
    there.sort(
        key=lambda row: value(row) if numbers else str(value(row)),
        reverse=(ahead == "max") != by.startswith("-"),
    )
    rows[:] = there + rest


def known_columns(runs: Sequence[RunRecord]) -> list[str]:
    """Return the names of all columns that there could be."""
    names = dict.fromkeys(["name", "status", "time"])
    for run in runs:
        names |= dict.fromkeys([*run.metrics, *run.overrides])
    return list(names)


def _finite(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _unknown(name: str, known: Iterable[str], where: str) -> UserError:
    return UserError(f"no run has {name!r}", where=where, fix=choice(name, sorted(known)))
