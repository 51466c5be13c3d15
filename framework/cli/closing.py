"""The table at the end of a run: its metrics by stage, the best epoch, and the time."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

from framework.text.escape import one_line
from framework.text.readable import duration, is_rate, number

if TYPE_CHECKING:
    from framework.trainer import Trainer

_STAGES = ("train", "val", "test")


def closing_table(trainer: Trainer, width: int = 1000) -> str:
    """Return the metrics of a finished `fit` and its test, its best checkpoint, and its time."""
    lines = _table(trainer.metrics)
    facts = {}
    if trainer.best is not None:
        facts["best"] = _best(trainer)
    rate = trainer.result()["examples_per_second"]
    speed = f", {rate:,.0f} examples/s" if rate else ""
    facts["time"] = duration(trainer.progress.seconds) + speed
    for name, fact in facts.items():
        found = textwrap.wrap(f"{name}  {fact}", max(20, width), subsequent_indent=" " * 6)
        lines += ["", *found] if name == next(iter(facts)) else found
    return "\n".join(["", *lines, ""])


def _table(metrics: Mapping[str, float]) -> list[str]:
    rows: dict[str, dict[str, str]] = {"loss": {}}
    for full, value in metrics.items():
        stage, _, name = full.partition("/")
        if stage in _STAGES and f"{full}_epoch" not in metrics and not is_rate(full):
            label = one_line(name.removesuffix("_epoch") if stage == "train" else name)
            rows.setdefault(label.replace("/", " "), {})[stage] = number(value)
    rows = {name: row for name, row in rows.items() if row}
    stages = [stage for stage in _STAGES if any(stage in row for row in rows.values())]
    width = max(map(len, rows), default=0)
    cells = [("", {stage: stage for stage in stages}), *rows.items()]
    wide = {s: max(6, *(len(row.get(s, "")) for _, row in cells)) for s in stages}
    return [
        "  ".join([name.ljust(width), *(row.get(s, "").rjust(wide[s]) for s in stages)]).rstrip()
        for name, row in cells
    ]


def _best(trainer: Trainer) -> str:
    best, length = trainer.best or {}, trainer.steps_per_epoch
    place = f"step {best['step']:,}"
    if length and len(trainer.config.accumulate_by_epoch) == 1:  # all epochs are equally long
        place = f"epoch {math.ceil(best['step'] / length):,}, {place}"
    name = one_line(best["metric"]).replace("/", " ")
    return f"{place}: {name} {number(best['value'])}"
