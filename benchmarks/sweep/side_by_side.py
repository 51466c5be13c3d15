"""How long a sweep takes with its jobs in turn and side by side, and what a process costs."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.sweep.disturbed import ROOT, claims

COLUMNS = ["sweep", "measured", "of rounds", "bar"]
TIME_BAR = 0.9  # of the time in turn
START_BAR = 2.0  # seconds more than in one process
_TASK = ("task=cifar100_subclass", "data.source=synthetic")
_QUIET = ("trainer.enable_progress_bar=false", "trainer.enable_model_summary=false")


def measure(
    data_dir: str | None = None,
    *,
    jobs: int = 8,
    epochs: int = 2,
    rounds: int = 3,
    say: Callable[[str], None] = lambda line: None,
) -> tuple[list[float], list[float]]:
    """Time sweeps of the lesson's CIFAR-100 task in turn, each by a command of its own.

    Args:
        data_dir: Where cifar100.npz is. Default: generated images.
        jobs: How many jobs a sweep has.
        epochs: How long each trains.
        rounds: How often each sweep is run.
        say: Called with a line now and then.

    Returns:
        Of each round, the time side by side as a share of the time in turn; and the seconds by
        which a job beyond the first takes longer in a process of its own.
    """
    task = [_TASK[0], f"data.dir={data_dir}"] if data_dir else [*_TASK]
    seeds = f"seed={','.join(map(str, range(jobs)))}"
    shares, starts = [], []
    with tempfile.TemporaryDirectory() as directory:
        for number in range(rounds):
            place = Path(directory) / str(number)
            long = [*task, seeds, f"trainer.max_epochs={epochs}"]
            alone = _time([*long, f"sweep_dir={place}/alone"])
            pairs = _time([*long, f"sweep_dir={place}/pairs", "jobs=2"])
            shares.append(pairs / alone)
            short = [*task, "seed=0,1,2,3,4", "trainer.max_steps=1", "trainer.limit_test_batches=1"]
            _time([*short, f"sweep_dir={place}/one"])
            own = ["hydra/launcher=processes", "hydra.launcher.jobs=1"]
            _time([*short, f"sweep_dir={place}/own", *own])
            starts.append(_each(place / "own") - _each(place / "one"))
            say(
                f"sweep: round {number + 1} of {rounds}: {alone:.0f} s in turn, {pairs:.0f} s side "
                f"by side; a process costs {starts[-1]:.2f} s"
            )
    return shares, starts


def rows(shares: list[float], starts: list[float]) -> list[list[str]]:
    """Return both as rows of a table."""
    return [
        _row("two at a time, as a share of one at a time", shares, TIME_BAR),
        _row("a job beyond the first in its own process, seconds more", starts, START_BAR),
    ]


def missed(shares: list[float], starts: list[float]) -> list[str]:
    """Return the bars that are missed."""
    found = []
    for name, values, bar in (("time", shares, TIME_BAR), ("start", starts, START_BAR)):
        if statistics.median(values) > bar:
            found.append(f"sweep: {name} is {statistics.median(values):.2f}, the bar is {bar}")
    return found


def _row(name: str, values: list[float], bar: float) -> list[str]:
    spread = f"{min(values):.2f} to {max(values):.2f}"
    return [name, f"{statistics.median(values):.2f}", spread, f"at most {bar}"]


def _time(words: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "framework", "-m", *words, *_QUIET],
        check=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def _each(sweep: Path) -> float:
    """Return the seconds from the end of one job to the end of the next, on average."""
    ends = sorted(each["ended"] for each in claims(sweep).values())
    return float(ends[-1] - ends[0]) / (len(ends) - 1)
