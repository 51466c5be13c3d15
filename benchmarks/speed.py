"""Steps per second of every contender, side by side, and their ratios."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import peers
from benchmarks.contenders import CONTENDERS
from benchmarks.workloads import Run, Workload

Say = Callable[[str], None]
_CALIBRATION_STEPS = 64


@dataclass(frozen=True)
class Rates:
    """What the rounds of one workload gave.

    Attributes:
        workload: What was trained.
        steps: Steps of each contender's turn.
        rates: Steps per second of each contender, one for each round.
    """

    workload: Workload
    steps: dict[str, int]
    rates: dict[str, list[float]]

    def ratios(self, name: str) -> list[float]:
        """Return the framework's rate over another's, round by round.

        The two of a round stand side by side in time, so that a machine that slows down for a
        while slows both.
        """
        others = [self.rates[each] for each in BEST_OF.get(name, (name,)) if each in self.rates]
        pairs = zip(self.rates["framework"], zip(*others, strict=True), strict=True)
        return [own / max(each) for own, each in pairs]

    def missed(self) -> list[str]:
        """Return a line for every bar that the median ratio misses."""
        lines = []
        for name, bar in self.workload.bars.items():
            if any(each in self.rates for each in BEST_OF.get(name, (name,))):
                ratio = statistics.median(self.ratios(name))
                if ratio < bar:
                    lines.append(f"{self.workload.name}: {ratio:.2f} of {name}, wanted {bar:.2f}")
        return lines

    def rows(self) -> list[list[str]]:
        """Return the table's rows: contender, steps/s, examples/s, spread, ratio, its spread."""
        rows = []
        for name, rates in self.rates.items():
            median, ratios = statistics.median(rates), self.ratios(name)
            bar = self.workload.bars.get(name)
            rows.append(
                [
                    name,
                    f"{median:,.0f}",
                    f"{median * self.workload.batch:,.0f}",
                    f"{min(rates):,.0f} to {max(rates):,.0f}",
                    f"{statistics.median(ratios):.2f}",
                    f"{min(ratios):.2f} to {max(ratios):.2f}",
                    f"{bar:.2f}" if bar else "",
                ]
            )
        for name, others in BEST_OF.items():
            if name in self.workload.bars and any(each in self.rates for each in others):
                ratios = self.ratios(name)
                spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
                shown = f"{statistics.median(ratios):.2f}"
                rows.append([name, "", "", "", shown, spread, f"{self.workload.bars[name]:.2f}"])
        return rows


# What is compared with the best of several in each round.
BEST_OF = {
    "by_hand": ("per_step", "range_loop", "gather_loop", "hand_step_xla", "hand_loop_xla"),
    "best_fit_50": ("fit_50", "fit_50_xla"),
}
COLUMNS = ["contender", "steps/s", "examples/s", "of rounds", "framework is", "of rounds", "bar"]


def measure(
    workload: Workload,
    names: list[str] | None = None,
    *,
    rounds: int = 5,
    seconds: float = 2.0,
    steps: int | None = None,
    say: Say = lambda line: None,
) -> Rates:
    """Prepare every contender, then time them in turn, round after round.

    Args:
        workload: What to train.
        names: Contenders; the framework is always among them. Default: all.
        rounds: How often each has its turn.
        seconds: How long a turn is to last.
        steps: Steps of every turn, instead of what fits into `seconds`.
        say: Told of progress.
    """
    able = workload.contenders or every_contender()
    chosen = [name for name in able if names is None or name in ("framework", *names)]
    runs: dict[str, Run] = {}
    for name in chosen:
        say(f"{workload.name}: preparing {name}")
        runs[name] = CONTENDERS[name](workload)
    turns = {name: steps or _fitting(run, seconds) for name, run in runs.items()}
    rates: dict[str, list[float]] = {name: [] for name in chosen}
    for number in range(rounds):
        for name, run in runs.items():
            gc.collect()
            rates[name].append(turns[name] / run(turns[name]))
        now = ", ".join(f"{name} {each[-1]:,.0f}" for name, each in rates.items())
        say(f"{workload.name}: round {number + 1} of {rounds}: {now}")
    return Rates(workload, turns, rates)


def every_contender() -> list[str]:
    """Return those that train from arrays on one device and are installed."""
    missing = {"two_devices", *peers.NAMES} - set(peers.available())
    return [name for name in CONTENDERS if name not in missing]


def _fitting(run: Run, seconds: float) -> int:
    """Return how many steps take about that long, from ever longer trials."""
    steps = _CALIBRATION_STEPS
    while True:
        took = run(steps)
        if took > seconds / 8:
            return max(1, round(steps * seconds * 1.1 / took))
        steps *= 4
