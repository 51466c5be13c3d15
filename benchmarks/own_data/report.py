"""What `python -m benchmarks data` shows."""

from __future__ import annotations

import gc
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.own_data import contests, killed
from benchmarks.own_data.contests import Contest

COLUMNS = ["data", "steps/s", "of rounds", "ratio", "of rounds", "bar"]
KILLED_COLUMNS = ["data", "killed after step", "another end"]
Say = Callable[[str], None]


def measure(rounds: int, quick: bool, say: Say) -> tuple[list[list[str]], list[str]]:
    """Return the rows of the table, and a line for every bar that is missed."""
    rows, missed = [], []
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        say("data: writing files")
        found = [
            contests.images(folder / "images", 1000 if quick else 10_000, 60 if quick else 1000),
            contests.table(folder, 50_000 if quick else 1_000_000, 500 if quick else 6000),
            contests.hugging_face(20_000 if quick else 200_000, 500 if quick else 6000),
        ]
        for contest in found:
            if contest is not None:
                lines, ratio = _contest(contest, rounds, say)
                rows += lines
                if ratio < contest.bar:
                    missed.append(f"data: {contest.name}: {ratio:.2f}, wanted {contest.bar:.2f}")
    return rows, missed


def _contest(contest: Contest, rounds: int, say: Say) -> tuple[list[list[str]], float]:
    turns = {contest.name: contest.own, **contest.others, **contest.more}
    rates: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds):
        for name, turn in turns.items():
            gc.collect()
            rates[name].append(turn())
        now = ", ".join(f"{each[-1]:,.0f}" for each in rates.values())
        say(f"data: {contest.name}: round {number + 1} of {rounds}: {now}")
    best = [max(each) for each in zip(*(rates[name] for name in contest.others), strict=True)]
    ratios = [own / other for own, other in zip(rates[contest.name], best, strict=True)]
    lines = []
    for name, each in rates.items():
        line = [name, f"{statistics.median(each):,.0f}", f"{min(each):,.0f} to {max(each):,.0f}"]
        if name == contest.name:
            line += [f"{statistics.median(ratios):.2f}", f"{min(ratios):.2f} to {max(ratios):.2f}"]
            line += [f"{contest.bar:.2f}"]
        lines.append(line + [""] * (len(COLUMNS) - len(line)))
    return lines, statistics.median(ratios)


def kill(kills: int, say: Say) -> tuple[list[list[str]], list[str]]:
    """Kill a run on every kind of data, continue it, and compare it with one that was not."""
    rows, missed = [], []
    with tempfile.TemporaryDirectory() as directory:
        for kind in killed.KINDS:
            steps, same = killed.check(kind, Path(directory) / kind, kills)
            say(f"data: {kind}: killed after steps {steps}")
            rows.append([kind, ", ".join(map(str, steps)), "no" if same else "YES"])
            if not same:
                missed.append(f"data: a killed run on {kind} ended with other bits")
    return rows, missed
