"""One calm look for all pictures, legible at the size at which TensorBoard shows them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

INK, FAINT, PAPER = "#2b2f36", "#8a919c", "#ffffff"
RIGHT, WRONG, ACCENT = "#2f7d4f", "#b8433b", "#3a6ea5"
COLOURS = (
    "#3a6ea5", "#d9822b", "#4d9a5b", "#b8433b", "#7d5ba6", "#8c6d4f",
    "#d06fa0", "#6b7280", "#a8a82f", "#2fa5a5", "#1d3a5f", "#e0a96d",
)  # fmt: skip
"""Twelve colours for curves; more cannot be told apart."""

DPI = 110
_LOOK: Mapping[str, Any] = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e6e8eb",
    "text.color": INK,
    "text.parse_math": False,  # a class may be called "$"
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": PAPER,
    "figure.dpi": DPI,
}


@contextmanager
def figure(width: float, height: float) -> Iterator[Any]:
    """Yield an empty matplotlib figure in the house's style, without a window or pyplot.

    Example:
        >>> with figure(4, 3) as made:
        ...     axes = made.subplots()

    Args:
        width: In inches, of 110 pixels.
        height: In inches.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(dict(_LOOK)):
        yield Figure(figsize=(width, height), dpi=DPI, layout="constrained")


def short(name: str, most: int = 22) -> str:
    """Return a name with at most so many characters.

    Example:
        >>> short("a very long name of a class", 12)
        'a very long…'
    """
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def heading(stage: str, what: str, step: int) -> str:
    """Return the title of a picture.

    Example:
        >>> heading("val/clean", "Calibration", 1500)
        'Calibration · val/clean · step 1,500'
    """
    return f"{what} · {stage} · step {step:,}"
