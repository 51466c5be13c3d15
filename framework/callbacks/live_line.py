"""A line of the terminal that is redrawn in place."""

from __future__ import annotations

import atexit
import logging
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

# Ordinary redraws are limited to 8 a second, which leaves room for urgent ones.
_REDRAWS_PER_SECOND = 10
_USUAL_SECONDS = 1 / 8
_WIDTH_FOR_BAR = 60
_SHORTEST_BAR, _LONGEST_BAR = 6, 40
_LAST = re.compile(r" [^ ]+( [a-z/]+)?$")  # a number and its unit, such as "412 it/s"


@dataclass(frozen=True)
class Line:
    """The content of the line, for any width.

    Attributes:
        left: Text at the start of the line.
        part: Completed fraction, from 0 to 1; None draws no bar.
        count: Progress in numbers.
        metrics: Further values; those that do not fit are left out.
    """

    left: str
    part: float | None = None
    count: str = ""
    metrics: list[str] = field(default_factory=list)

    def plain(self) -> str:
        """Return the content as plain text."""
        return "  ".join(word for word in (self.left, self.count, *self.metrics) if word)

    def fit(self, width: int, full: str = "━", rest: str = "━") -> Text:
        """Return the content in at most `width` columns; the bar fills what the words leave."""
        has_bar = self.part is not None and width >= _WIDTH_FOR_BAR
        room = width - _SHORTEST_BAR - 2 if has_bar else width
        words = [word for word in (self.left, self.count) if word]
        while len(words) > 1 and len("  ".join(words)) > room and " " in words[1].lstrip():
            words[1] = _LAST.sub("", words[1])
        for metric in self.metrics:
            if len("  ".join([*words, metric])) <= room:
                words.append(metric)
        text = Text("  ".join(words))
        if has_bar:
            size = min(_LONGEST_BAR, width - len(text) - 2)
            done = int(size * min(1.0, self.part or 0.0))
            bar = ((full * done, "cyan"), (rest * (size - done), "bright_black"))
            text = Text.assemble(self.left, "  ", *bar, "  ", "  ".join(words[1:]))
        text.truncate(max(1, width))
        return text


class Surface(Protocol):
    """What a progress bar draws on.

    Attributes:
        live: Whether it redraws; otherwise it only prints permanent lines.
    """

    live: bool

    def draw(self, line: Callable[[], Line], urgent: bool) -> None:
        """Redraw, unless the last redraw is too recent; an urgent one may come sooner."""

    def print(self, parts: Sequence[str], mark: str = "") -> None:
        """Print parts as one permanent line, with a `mark` at its end."""

    def stop(self) -> None:
        """Remove what is redrawn, and leave what is permanent."""


class Display:
    """Redraw one line in place, below everything that is printed meanwhile.

    It draws only when called, in the caller's thread. A screen has one such line: the next display
    that draws erases it. When its terminal or pipe is closed, it stops printing: a run must survive
    the window that it was started in.

    Attributes:
        live: Whether it redraws; otherwise it only prints permanent lines.
        shown: The display, or other surface, whose line is on the screen.
    """

    shown: ClassVar[Surface | None] = None

    def __init__(self, console: Console, live: bool | None, clock: Callable[[], float]) -> None:
        self._console = console
        self.live = _can_redraw(console) if live is None else live
        self._clock = clock
        self._gone = False
        self._live: Live | None = None
        self._drawn: deque[float] = deque(maxlen=_REDRAWS_PER_SECOND)
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []

    def draw(self, line: Callable[[], Line], urgent: bool) -> None:
        """Redraw, unless the last redraw is too recent; an urgent one may come sooner."""
        if not self.live or self._gone:
            return
        now, drawn = self._clock(), self._drawn
        if drawn and not urgent and now - drawn[-1] < _USUAL_SECONDS:
            return
        if len(drawn) == drawn.maxlen and now - drawn[0] < 1.0:
            return
        drawn.append(now)
        full = "#" if self._console.options.ascii_only else "━"
        colors = self._console.color_system and not self._console.no_color
        # Leave room for the ^C that a terminal echoes: a wrapped line could not be erased.
        text = line().fit(self._console.width - 3, full, full if colors else " ")
        try:
            live = self._live or self._start()
            live.update(text, refresh=True)
        except OSError:
            self._lose()

    def print(self, parts: Sequence[str], mark: str = "") -> None:
        """Print parts as one permanent line, or as several on a narrow terminal.

        A `mark` at the end, such as `best`, has a colour on a terminal.
        """
        if self._gone:
            return
        width = self._console.width if self._console.is_terminal else 0
        lines: list[str] = []
        for part in [*parts, mark] if mark else parts:
            if lines and (not width or len(f"{lines[-1]}  {part}") <= width):
                lines[-1] += f"  {part}"
            else:
                lines.append(f"  {part}" if lines else part)
        text = Text("\n".join(lines))
        if mark:
            text.stylize("bold green", len(text) - len(mark))
        try:
            if self._console.is_terminal:
                self._console.print(text, soft_wrap=True)
            else:
                self._console.file.write(text.plain + "\n")
                self._console.file.flush()
        except OSError:
            self._lose()

    def stop(self) -> None:
        """Erase the line and restore the terminal."""
        live, self._live = self._live, None
        self._drawn.clear()
        if live is None:
            return
        Display.shown = None
        atexit.unregister(self.stop)
        for handler, stream in self._handlers:
            handler.setStream(stream)
        self._handlers.clear()
        with suppress(OSError):
            live.stop()

    def _lose(self) -> None:
        self._gone = True
        self.stop()

    def _start(self) -> Live:
        erase()
        streams = {id(sys.stdout): "stdout", id(sys.stderr): "stderr"}
        # No thread redraws: no Python runs between two wake-ups. Standard error that is
        # redirected to a file must stay so.
        live = self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),
        )
        live.start()
        Display.shown = self
        # A run that ends without `stop` must not leave the cursor hidden.
        atexit.register(self.stop)
        # Existing handlers still have the original stream, and would write across the bar.
        for handler in _stream_handlers():
            name = streams.get(id(handler.stream))
            if name and handler.stream is not getattr(sys, name):
                self._handlers.append((handler, handler.stream))
                handler.setStream(getattr(sys, name))
        return live


def erase() -> None:
    """Erase the line that is redrawn in place, if there is one, whoever draws it."""
    if Display.shown is not None:
        Display.shown.stop()


def in_order(metrics: Mapping[str, float], known: Iterable[str]) -> dict[str, float]:
    """Sort metrics in the same order for all stages: the loss first, then as in `known`.

    Example:
        >>> in_order({"train/accuracy": 0.5, "train/loss": 2.0}, [])
        {'train/loss': 2.0, 'train/accuracy': 0.5}
    """
    names = dict.fromkeys(map(_bare, known))
    places = {name: place for place, name in enumerate(dict.fromkeys(["loss", *names]))}
    return dict(sorted(metrics.items(), key=lambda pair: places.get(_bare(pair[0]), len(places))))


def _bare(name: str) -> str:
    return name.partition("/")[2].removesuffix("_epoch")


class Screen(Console):
    """A rich console that tolerates a closed pipe, so that the run continues.

    In a notebook it prints text: rich would make one output of every line.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"force_jupyter": False, **options})

    def on_broken_pipe(self) -> None:
        """Stop printing."""
        self.quiet = True


def _can_redraw(console: Console) -> bool:
    # rich treats FORCE_COLOR as a terminal, but a file must not receive control characters.
    terminal = console.is_interactive and console.file.isatty()
    return terminal and not os.environ.get("CI")


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [h for log in loggers if isinstance(log, logging.Logger) for h in log.handlers]
    return [h for h in handlers if isinstance(h, logging.StreamHandler) and hasattr(h, "stream")]
