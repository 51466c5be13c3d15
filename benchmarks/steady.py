"""What must not cost: epochs, logged values, callbacks that sleep, and a long run's memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from benchmarks.contenders import Stopwatch
from benchmarks.workloads import one_layer
from framework import Callback, Data, Trainer
from framework.every import Every

BAR, MOST_GROWTH = 0.9, 20e6
COLUMNS = ["run", "steps/s", "of rounds", "of the first", "bar"]
Say = Callable[[str], None]


class _Memory(Callback):
    """Notes the resident memory every 10,000 steps."""

    every = Every("10000st")

    def __init__(self) -> None:
        self.bytes: list[int] = []

    def on_wake(self, trainer: Trainer) -> None:
        pages = Path("/proc/self/statm").read_text().split()[1]
        self.bytes.append(int(pages) * 4096)


def measure(
    *, rounds: int = 5, steps: int = 20_000, long: int = 100_000, say: Say = lambda line: None
) -> tuple[dict[str, list[float]], float]:
    """Return steps per second by run, and the bytes by which a long one has grown.

    Args:
        rounds: Turns of each run.
        steps: Steps of a turn.
        long: Steps of the run whose memory is watched, from its tenth part on.
        say: Told of progress.
    """
    kinds: dict[str, dict[str, Any]] = {
        "one epoch, 2 values": {},
        "100 epochs": {"epochs": 100},
        "50 values": {"values": 50},
        "20 callbacks that sleep": {"callbacks": 20},
    }
    rates: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(rounds):
        for name, kind in kinds.items():
            rates[name].append(_run(steps, **kind))
        say(f"steady: round {number + 1} of {rounds}")
    memory = _Memory()
    _run(long, epochs=long // 2_000, more=[memory])
    seen = memory.bytes[1:] or [0]
    return rates, float(seen[-1] - seen[0])


def _run(steps: int, epochs: int = 1, values: int = 2, callbacks: int = 0, more: Any = ()) -> float:
    workload = one_layer(rows=32 * (steps + 1_000) // epochs)

    class Logs(type(workload.task())):  # type: ignore[misc]
        def train_step(self, batch: Any) -> Any:
            loss = super().train_step(batch)
            for number in range(values - 2):
                self.log(f"value-{number}", loss)  # which the step has anyway
            return loss

    watch = Stopwatch(500)
    task = Logs(
        optimizer="adam",
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics={"accuracy": keras.metrics.sparse_categorical_accuracy},
    )
    Trainer(
        engine="graph",
        max_steps=500 + steps,
        max_epochs=10**6,
        log_every="500st",
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[watch, *(Callback() for _ in range(callbacks)), *more],
    ).fit(task, Data(train=(workload.x, workload.y)))
    return steps / watch.seconds


def rows(rates: dict[str, list[float]], growth: float) -> list[list[str]]:
    """Return the table's rows."""
    found = []
    for name, each in rates.items():
        ratio = statistics.median(_ratios(rates, name))
        spread = f"{min(each):,.0f} to {max(each):,.0f}"
        bar = f"{BAR:.2f}" if found else ""
        found.append([name, f"{statistics.median(each):,.0f}", spread, f"{ratio:.2f}", bar])
    grown = ["growth over 100,000 steps", f"{growth / 1e6:.1f} MB", "", "", "20 MB"]
    return [*found, grown]


def missed(rates: dict[str, list[float]], growth: float) -> list[str]:
    """Return a line for every bar that is missed."""
    lines = [
        f"steady: {name} has {ratio:.2f} of the speed, wanted {BAR:.2f}"
        for name in list(rates)[1:]
        if (ratio := statistics.median(_ratios(rates, name))) < BAR
    ]
    if growth > MOST_GROWTH:
        lines.append(f"steady: memory grows by {growth / 1e6:.1f} MB, wanted 20 MB at most")
    return lines


def _ratios(rates: dict[str, list[float]], name: str) -> list[float]:
    first = next(iter(rates.values()))
    return [rate / base for rate, base in zip(rates[name], first, strict=True)]
