"""The curves of a run's metrics, as a picture within a page."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import Any

from framework.callbacks.pictures.style import COLOURS, blank, look, short
from framework.text.readable import is_rate

_MOST_POINTS = 500
_MOST_PANELS = 3
_SECONDS = 2.0
_SHARE = 20  # drawing may take a twentieth of the time


class Curves:
    """The values of metrics by step, and a picture of them: training and validation together.

    However long a run is, a curve has at most 500 points. The picture is redrawn when it is asked
    for, but only every few seconds.

    Example:
        >>> curves = Curves(time.monotonic)
        >>> curves.add(100, {"train/loss": 2.5, "val/loss": 2.4})
        >>> curves.picture()[:26]
        'data:image/svg+xml;base64,'

    Args:
        clock: Returns monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._series: dict[str, _Series] = {}
        self._drawn_at, self._cost = -math.inf, 0.0
        self._picture: str | None = None
        self._new = False

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Add what was measured at a step; means over an epoch are left out."""
        for name, value in metrics.items():
            wanted = name.startswith(("train/", "val/")) and not is_rate(name)
            if wanted and not name.endswith("_epoch"):
                self._series.setdefault(name, _Series()).add(step, value)
                self._new = True

    def picture(self, now: bool = False) -> str | None:
        """Return the picture as the address of an image, or None if there is nothing to draw.

        Args:
            now: Draw what is new, however recent the last picture is.
        """
        since = self._clock() - self._drawn_at
        if self._new and (now or since >= max(_SECONDS, _SHARE * self._cost)):
            began = self._clock()
            self._picture = self._draw()
            self._new, self._drawn_at = False, self._clock()
            self._cost = self._drawn_at - began
        return self._picture

    def panels(self) -> dict[str, list[str]]:
        """Return the names of the curves by panel: one for each metric, the loss first."""
        found: dict[str, list[str]] = {}
        for name in self._series:
            found.setdefault(name.rpartition("/")[2], []).append(name)
        order = sorted(found, key=lambda metric: metric != "loss")[:_MOST_PANELS]
        return {metric: found[metric] for metric in order}

    def _draw(self) -> str | None:
        panels = {
            metric: [name for name in names if len(self._series[name].points) > 1]
            for metric, names in self.panels().items()
        }
        panels = {metric: names for metric, names in panels.items() if names}
        if not panels or find_spec("matplotlib") is None:
            return None
        from matplotlib import rc_context

        file = io.BytesIO()
        with look(), rc_context({"svg.fonttype": "none"}):
            figure = blank(3.2 * len(panels), 2.2)
            for axes, (metric, names) in zip(
                figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
            ):
                self._draw_panel(axes, metric, names)
            figure.savefig(file, format="svg", metadata={"Date": None})
        return "data:image/svg+xml;base64," + base64.b64encode(file.getvalue()).decode()

    def _draw_panel(self, axes: Any, metric: str, names: list[str]) -> None:
        for colour, name in zip(COLOURS, sorted(names), strict=False):
            style = {"marker": "o", "markersize": 3} if name.startswith("val/") else {}
            steps, values = zip(*self._series[name].points, strict=True)
            label = short(name.removesuffix(f"/{metric}"))
            axes.plot(steps, values, color=colour, label=label, linewidth=1.3, **style)
        axes.set_title(short(metric))
        axes.set_xlabel("step")
        axes.grid(visible=True)
        axes.legend()


class _Series:
    """Finite values by step; of very many, every second, fourth and so on."""

    def __init__(self) -> None:
        self.points: list[tuple[int, float]] = []
        self._stride, self._count = 1, 0

    def add(self, step: int, value: float) -> None:
        self._count += 1
        if math.isfinite(value) and self._count % self._stride == 0:
            self.points.append((step, value))
        if len(self.points) > _MOST_POINTS:
            self.points = self.points[1::2]
            self._stride *= 2
