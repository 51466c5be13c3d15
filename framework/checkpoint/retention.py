"""Decides which checkpoints to keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Retention:
    """Decide which checkpoints of a run to keep.

    Example:
        >>> manifests = [{"step": s, "judged": None, "permanent": s == 1} for s in (1, 2, 3, 4)]
        >>> sorted(Retention(last=2).kept(manifests))
        [1, 3, 4]

    Attributes:
        last: Number of latest checkpoints to keep; the newest is always kept.
        best: Number of best checkpoints to keep.
        mode: `min` or `max`: whether a lower or a higher metric is better.
    """

    last: int = 1
    best: int = 1
    mode: str = "min"

    def kept(self, manifests: Sequence[Mapping[str, Any]]) -> set[int]:
        """Return the steps to keep, given the manifest of each checkpoint."""
        steps = sorted(m["step"] for m in manifests)
        best = best_first(alike(manifests), self.mode)[: self.best]
        permanent = [m["step"] for m in manifests if m["permanent"]]
        return {*steps[-max(self.last, 1) :], *best, *permanent}


def best_first(values: Mapping[int, float], mode: str) -> list[int]:
    """Return steps by the value measured there, best first; of equal ones, the earlier first."""
    sign = -1 if mode == "max" else 1
    return sorted(values, key=lambda step: (sign * values[step], step))


def alike(manifests: Sequence[Mapping[str, Any]]) -> dict[int, float]:
    """Return the values, by step, of the metric that the newest judged checkpoint has."""
    judged = {m["step"]: m["judged"] for m in manifests if m["judged"]}
    metric = judged[max(judged)]["metric"] if judged else None
    return {step: each["value"] for step, each in judged.items() if each["metric"] == metric}
