"""Which checkpoints are worth their room."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Retention:
    """What to keep of a run's checkpoints.

    Example:
        >>> manifests = [{"step": s, "judged": None, "permanent": s == 1} for s in (1, 2, 3, 4)]
        >>> sorted(Retention(last=2).kept(manifests))
        [1, 3, 4]

    Attributes:
        last: How many of the latest; the newest is kept in any case.
        best: How many of the best.
        mode: Which way the metric is better: `min` or `max`.
    """

    last: int = 1
    best: int = 1
    mode: str = "min"

    def kept(self, manifests: Sequence[Mapping[str, Any]]) -> set[int]:
        """Return the steps to keep.

        Args:
            manifests: What the store knows of each checkpoint: `step`, `judged`, `permanent`.
        """
        steps = sorted(m["step"] for m in manifests)
        judged = [m for m in manifests if m["judged"]]
        if judged:
            metric = max(judged, key=lambda m: m["step"])["judged"]["metric"]
            judged = [m for m in judged if m["judged"]["metric"] == metric]
        sign = -1 if self.mode == "max" else 1
        judged.sort(key=lambda m: (sign * m["judged"]["value"], m["step"]))
        permanent = {m["step"] for m in manifests if m["permanent"]}
        return {*steps[-max(self.last, 1) :], *(m["step"] for m in judged[: self.best]), *permanent}
