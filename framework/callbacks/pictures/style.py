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
def look() -> Iterator[None]:
    """Draw in the house's style in the body."""
    from matplotlib import rc_context

    with rc_context(dict(_LOOK)):
        yield


def blank(width: float, height: float, layout: str | None = "constrained") -> Any:
    """Return an empty matplotlib figure, without a window or pyplot. Call it within `look`.

    Example:
        >>> with look():
        ...     axes = blank(4, 3).subplots()

    Args:
        width: In inches, of 110 pixels.
        height: In inches.
        layout: How it is laid out. None: by hand.
    """
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, layout=layout)


def write_title(figure: Any, text: str) -> None:
    """Write the title of a figure at its upper left."""
    # A layout reserves room for a title only if it places it itself.
    at = {} if figure.get_layout_engine() else {"y": 1 - 0.08 / figure.get_figheight()}
    left = 0.08 / figure.get_figwidth()
    figure.suptitle(text, x=left, ha="left", va="top", fontsize=10, fontweight="bold", **at)


def width_of(text: str, size: float, *, bold: bool = False) -> float:
    """Return the width of a text in inches. Call it within `look`."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties(weight="bold" if bold else "normal")))
    font.set_size(size, 72)
    font.set_text(text, 0.0)
    return float(font.get_width_height()[0]) / 64 / 72  # in 64ths of a pixel


def short(name: str, most: int = 22) -> str:
    """Return a name with at most so many characters; what differs is often at its end.

    Example:
        >>> short("a very long name of a class", 12)
        'a very…class'
    """
    if len(name) <= most:
        return name
    end = (most - 1) // 2
    return name[: most - 1 - end].rstrip() + "…" + name[len(name) - end :].lstrip()


def heading(stage: str, what: str, step: int) -> str:
    """Return the title of a picture.

    Example:
        >>> heading("val/clean", "Calibration", 1500)
        'Calibration · val/clean · step 1,500'
    """
    return f"{what} · {stage} · step {step:,}"
