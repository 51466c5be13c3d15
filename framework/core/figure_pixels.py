"""Renders a matplotlib figure to pixels."""

from __future__ import annotations

from typing import Any

import numpy as np


def figure_pixels(figure: Any) -> np.ndarray[Any, Any]:
    """Return a figure as uint8 pixels: [height, width, 4].

    It draws without a window and without `pyplot`, so it works in any thread and on any machine.

    Example:
        >>> from matplotlib.figure import Figure
        >>> figure_pixels(Figure(figsize=(4, 3), dpi=100)).shape
        (300, 400, 4)

    Args:
        figure: A `matplotlib.figure.Figure`.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    shown, canvas = figure.canvas, FigureCanvasAgg(figure)
    try:
        canvas.draw()
        return np.array(canvas.buffer_rgba())
    finally:
        figure.set_canvas(shown)
