"""The curve of a learning-rate range test, and the rate that it suggests."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from framework.core.safe_files import replacing

DIVERGED = 4.0  # times the smallest loss
_MEMORY = 0.9  # of the mean that decides when to stop
_WIDTH = 0.04  # of the smoothing, as a share of the tested steps
_BELL = 2 * math.sqrt(math.pi)  # a bell curve averages as if over this many widths
_CLEAR = 5.0  # a descent is deeper than this many times the noise of the smoothed curve
_LEAST = 0.01  # and than this share of the loss at the start

_log = logging.getLogger("framework")


@dataclass(frozen=True)
class RateCurve:
    """The loss of each step of a range test, in which the learning rate grows from step to step.

    Example:
        >>> curve = trainer.lr_find(task, data)
        >>> curve.suggestion
        0.0021

    Args:
        optimizer: The name of the optimizer whose rate grew.
        metric: The name of the value that was followed, such as `loss`.
        rates: The rate of each step, ascending.
        losses: The value of each step; the last one may not be finite.
        optimizers: The names of all optimizers of the task.
    """

    optimizer: str
    metric: str
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    optimizers: tuple[str, ...] = ("optimizer",)

    @property
    def smoothed(self) -> np.ndarray[Any, Any]:
        """The losses, averaged over neighboring steps with the weights of a bell curve."""
        losses = np.asarray(self.losses, np.float64)
        width = max(1.0, _WIDTH * len(losses))
        at = np.arange(len(losses))
        weights = np.exp(-0.5 * ((at[:, None] - at[None, :]) / width) ** 2)
        return np.asarray(weights @ losses / weights.sum(axis=1))

    @property
    def suggestion(self) -> float | None:
        """The rate at which the smoothed loss falls most steeply, with two digits.

        None if the loss does not fall clearly, compared to its noise. A lower bound for a good
        rate is where the loss begins to fall, an upper bound is where it is lowest (Smith, 2017).
        """
        good = self.until_diverged()
        if len(good.losses) < 5:
            return None
        smoothed, losses = good.smoothed, np.asarray(good.losses)
        lowest = int(smoothed.argmin())
        if lowest < 2:
            return None
        noise = float(np.std(losses[: lowest + 1] - smoothed[: lowest + 1]))
        noise /= math.sqrt(_BELL * max(1.0, _WIDTH * len(losses)))  # of a mean over that many
        start = float(np.median(smoothed[: lowest // 2 + 1]))
        depth = start - smoothed[lowest]
        if depth <= max(_CLEAR * noise, _LEAST * abs(start)):
            return None
        # Before the descent to the minimum, a slope is only noise.
        level = np.flatnonzero(smoothed[:lowest] >= start - depth / 10)
        first = int(level[-1]) if len(level) else 0
        slopes = np.gradient(smoothed, np.log(good.rates))[first : lowest + 1]
        return float(f"{good.rates[first + int(slopes.argmin())]:.2g}")

    def until_diverged(self) -> RateCurve:
        """Return the part of the curve before the loss was not finite or had diverged."""
        count = diverged_at(self.losses)
        count = len(self.losses) if count is None else count
        return replace(self, rates=self.rates[:count], losses=self.losses[:count])

    def save(self, folder: Path, name: str = "lr_find") -> Path:
        """Write `lr_find.csv`, and `lr_find.png` if matplotlib is installed.

        Args:
            folder: An existing directory.
            name: The name of the files, without their endings.

        Returns:
            The path of the plot, or of the table without matplotlib.
        """
        table, plot = folder / f"{name}.csv", folder / f"{name}.png"
        rows = zip(self.rates, self.losses, strict=True)
        lines = [f"learning_rate,{self.metric}", *(f"{rate:.9g},{loss:.9g}" for rate, loss in rows)]
        with replacing(table) as file:
            file.write(("\n".join(lines) + "\n").encode())
        figure = self.figure()
        if figure is None:
            _log.info('no plot: pip install "keras-task-framework[plots]" draws %s', plot)
            return table
        with replacing(plot) as file:
            figure.savefig(file, format="png")
        return plot

    def figure(self) -> Any:
        """Return the curve as a matplotlib figure, or None without matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return None
        good = self.until_diverged()
        figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
        axes = figure.subplots()
        axes.plot(good.rates, good.losses, color="0.75", label="each step")
        axes.plot(good.rates, good.smoothed, color="C0", label="smoothed")
        if self.suggestion is not None:
            axes.axvline(self.suggestion, color="C3", ls="--", label=f"{self.suggestion:g}")
        axes.set(xscale="log", xlabel=f"learning rate of {self.optimizer}", ylabel=self.metric)
        axes.legend()
        return figure


def diverged_at(losses: Any) -> int | None:
    """Return the first step whose mean loss is 4 times its minimum, or not finite; None if none is.

    The mean is exponential. A minimum m below 0 counts as exceeded by 3 |m|, as one above 0 does.
    """
    mean, lowest = 0.0, math.inf
    for step, loss in enumerate(losses):
        if not math.isfinite(loss):
            return step
        mean = _MEMORY * mean + (1 - _MEMORY) * loss
        now = mean / (1 - _MEMORY ** (step + 1))
        lowest = min(lowest, now)
        if now > lowest + (DIVERGED - 1) * abs(lowest) and step > 1:
            return step
    return None
