"""The output of a run in a notebook's cell, as HTML and as plain text."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from framework.callbacks.curves import Curves
from framework.callbacks.epoch_row import EpochRow
from framework.callbacks.live_line import Display, Line
from framework.callbacks.thinning import Thinning
from framework.text.escape import one_line
from framework.text.readable import number

Show = Callable[[str, str], None]

_SECONDS = 0.25
_COLUMN = "text-align:right;padding:1px 10px;border:0"
_EDGE = "border-bottom:1px solid #8886"
_ACCENT, _BEST = "#3a6ea5", "#2f7d4f"


class CellOutput:
    """A bar, a table of the epochs and the curves, redrawn together in one output.

    Attributes:
        live: True: it redraws.
        rows: The epochs, and the validations within them.
        best: The step of the best checkpoint.
        curves: The metrics of every step that was logged.
        ending: How the run ended.

    Args:
        output: Opens an output, and returns what shows HTML and plain text in it.
        clock: Returns monotonic seconds.
        plot: Draw the curves, if matplotlib is installed.
    """

    live = True

    def __init__(
        self, output: Callable[[], Show], clock: Callable[[], float], *, plot: bool
    ) -> None:
        self._output, self._clock, self._plot = output, clock, plot
        self.begin()

    def begin(self) -> None:
        """Begin a new output, which opens when something is drawn."""
        self._show: Show | None = None
        self._empty = True
        self._drawn_at: float | None = None
        self._line: Line | None = None
        self._said: list[str] = []
        self.rows: list[EpochRow] = []
        self.best: int | None = None
        self.curves = Curves(self._clock)
        self.ending = ""

    def draw(self, line: Callable[[], Line], urgent: bool) -> None:
        """Redraw, unless the last redraw is too recent; an urgent one comes anyway."""
        now = self._clock()
        if self._drawn_at is not None and not urgent and now - self._drawn_at < _SECONDS:
            return
        if self._empty:  # below what was printed since
            self._show = None
        self._drawn_at, self._line = now, line()
        Display.shown = self
        self._redraw()

    def print(self, parts: Sequence[str], mark: str = "") -> None:
        """Add a permanent line."""
        self._said.append("  ".join([*parts, mark] if mark else parts))
        self._redraw()

    def stop(self) -> None:
        """Remove the bar; an output with nothing else becomes empty."""
        self._line, self._drawn_at = None, None
        if Display.shown is self:
            Display.shown = None
        if self._show is not None:
            self._redraw(last=True)

    def _redraw(self, last: bool = False) -> None:
        self._show = self._show or self._output()
        rows = _shown(self.rows, self.best)
        said = [*self._said, self.ending] if self.ending else self._said
        parts = [
            _bar(self._line) if self._line is not None else "",
            _table(rows, self.best) if rows else "",
            self._picture(last),
            *(f'<div style="white-space:pre-wrap">{escape(one_line(each))}</div>' for each in said),
        ]
        html = "".join(parts)
        self._empty = not html
        plain = ["  ".join([*row.parts(), *_mark(row, self.best)]) for row in rows]
        text = "\n".join([*([self._line.plain()] if self._line else []), *plain, *said])
        self._show(f'<div style="font-size:13px">{html}</div>' if html else "", text)

    def _picture(self, last: bool) -> str:
        picture = self.curves.picture(now=last) if self._plot else None
        return f'<div><img alt="curves" src="{picture}"/></div>' if picture else ""


def new_output() -> Show:
    """Return what shows HTML, or plain text, in a new output of the current cell."""
    from IPython.display import display

    handle: Any = None

    def show(html: str, text: str) -> None:
        nonlocal handle
        bundle = {"text/html": html, "text/plain": text}
        if handle is None:
            handle = display(bundle, raw=True, display_id=True)
        else:
            handle.update(bundle, raw=True)

    return show


def _shown(rows: list[EpochRow], best: int | None) -> list[EpochRow]:
    """Return about 50 of many rows: evenly, and the best and the last in any case."""
    thinning = Thinning(len(rows))
    return [
        row
        for count, row in enumerate(rows, 1)
        if thinning.keeps(count) or row.step == best or count == len(rows)
    ]


def _mark(row: EpochRow, best: int | None) -> list[str]:
    return ["best"] if row.step == best else []


def _bar(line: Line) -> str:
    bar = ""
    if line.part is not None:
        width = f"width:{100 * min(1.0, line.part):.1f}%"
        inner = f'<div style="{width};height:6px;border-radius:3px;background:{_ACCENT}"></div>'
        bar = f'<div style="width:180px;border-radius:3px;background:#8884">{inner}</div>'
    words = "&ensp;".join(escape(word.strip()) for word in (line.count, *line.metrics) if word)
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:2px 12px;align-items:center">'
        f"<b>{escape(line.left)}</b>{bar}<span>{words}</span></div>"
    )


def _table(rows: Sequence[EpochRow], best: int | None) -> str:
    columns = _columns(rows)
    paces = max((len(row.pace()) for row in rows), default=0)
    head = _cell("epoch", "th", _EDGE, 'rowspan="2"')
    for metric, of in columns.items():
        head += _cell(metric, "th", "text-align:center", f'colspan="{len(of)}"')
    head += _cell("", "th", _EDGE, f'rowspan="2" colspan="{paces + 1}"')
    kinds = [kind for of in columns.values() for kind in of.values()]
    head = f"<tr>{head}</tr><tr>{''.join(_cell(kind, 'th', _EDGE) for kind in kinds)}</tr>"
    names = [name for of in columns.values() for name in of]
    body = "".join(_row(row, names, paces, marked=row.step == best) for row in rows)
    return f'<table style="border-collapse:collapse;margin:6px 0">{head}{body}</table>'


def _row(row: EpochRow, names: Iterable[str], paces: int, *, marked: bool) -> str:
    style = f"color:{_BEST};font-weight:bold" if marked else ""
    values = {**row.train, **row.val}
    pace = [*row.pace(), *[""] * paces][:paces]
    words = [
        ", ".join([row.name.removeprefix("epoch "), *([row.note] if row.note else [])]),
        *(number(values[name]) if name in values else "" for name in names),
        *pace,
        "best" if marked else "",
    ]
    return f"<tr>{''.join(_cell(word, 'td', style) for word in words)}</tr>"


def _cell(word: str, kind: str, style: str = "", more: str = "") -> str:
    return f'<{kind} {more} style="{_COLUMN};{style}">{escape(one_line(word))}</{kind}>'


def _columns(rows: Iterable[EpochRow]) -> Mapping[str, dict[str, str]]:
    """Return by metric the full names that measure it, each with the heading of its column.

    Training and validation stand side by side: `train/loss`, `val/loss`, `val/clean/loss`.
    """
    rows = list(rows)
    names = list(dict.fromkeys(name for row in rows for name in row.train))
    columns = {name.partition("/")[2]: {name: "train"} for name in names}
    for name in dict.fromkeys(name for row in rows for name in row.val):
        stage, _, metric = name.partition("/")
        of, _, last = metric.rpartition("/")
        if metric not in columns and last in columns:
            stage, metric = f"{stage} {of}", last
        columns.setdefault(metric, {})[name] = stage
    return columns
