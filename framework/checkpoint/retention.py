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
        judged = [m for m in manifests if m["judged"]]
        if judged:
            metric = max(judged, key=lambda m: m["step"])["judged"]["metric"]
            judged = [m for m in judged if m["judged"]["metric"] == metric]
        sign = -1 if self.mode == "max" else 1
        judged.sort(key=lambda m: (sign * m["judged"]["value"], m["step"]))
        permanent = {m["step"] for m in manifests if m["permanent"]}
        return {*steps[-max(self.last, 1) :], *(m["step"] for m in judged[: self.best]), *permanent}
