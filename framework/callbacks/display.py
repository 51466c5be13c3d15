"""A line on the terminal that is redrawn in place."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

# Most redraws keep to 8 a second, which leaves room for those that announce something.
_REDRAWS_PER_SECOND = 10
_USUAL_SECONDS = 1 / 8
_WIDTH_FOR_BAR = 60
_SHORTEST_BAR, _LONGEST_BAR = 6, 40


@dataclass(frozen=True)
class Line:
    """What there is to show, whatever the width.

    Attributes:
        left: What the line begins with.
        part: How much is done, from 0 to 1; None draws no bar.
        count: The same in numbers.
        metrics: Further values; those that find no room are left out.
    """

    left: str
    part: float | None = None
    count: str = ""
    metrics: list[str] = field(default_factory=list)

    def plain(self) -> str:
        """Return it as a line of text."""
        return "  ".join(word for word in (self.left, self.count, *self.metrics) if word)

    def fit(self, width: int, full: str = "━", rest: str = "━") -> Text:
        """Return it in `width` columns; the bar takes what the words leave.

        Args:
            width: Columns to fill at most.
            full: Character of the done part of the bar.
            rest: Character of the rest.
        """
        has_bar = self.part is not None and width >= _WIDTH_FOR_BAR
        room = width - _SHORTEST_BAR - 2 if has_bar else width
        words = [word for word in (self.left, self.count) if word]
        for metric in self.metrics:
            if len("  ".join([*words, metric])) > room:
                break
            words.append(metric)
        text = Text("  ".join(words))
        if has_bar:
            size = min(_LONGEST_BAR, width - len(text) - 2)
            done = int(size * min(1.0, self.part or 0.0))
            bar = ((full * done, "cyan"), (rest * (size - done), "bright_black"))
            text = Text.assemble(self.left, "  ", *bar, "  ", "  ".join(words[1:]))
        text.truncate(max(1, width))
        return text


class Display:
    """One line that is redrawn in place, with everything that is printed meanwhile above it.

    It draws only when told to, in the caller's thread. Once its terminal or pipe is gone it is
    silent: a run must outlive the window that it was started in.

    Args:
        console: Where to draw.
        live: Redraw in place (True), print plain lines only (False), or decide by where the
            output goes (None).
        clock: Seconds that only rise.
    """

    def __init__(self, console: Console, live: bool | None, clock: Callable[[], float]) -> None:
        self._console = console
        self.live = _can_redraw(console) if live is None else live
        self._clock = clock
        self._gone = False
        self._live: Live | None = None
        self._drawn: deque[float] = deque(maxlen=_REDRAWS_PER_SECOND)
        self._handlers: list[tuple[logging.StreamHandler[Any], Any]] = []

    def draw(self, line: Callable[[], Line], urgent: bool) -> None:
        """Redraw, unless it was done just now; an urgent one may come sooner, within the limit."""
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
        # Room for the ^C that a terminal echoes: a line that wraps could not be taken away.
        text = line().fit(self._console.width - 3, full, full if colors else " ")
        try:
            live = self._live or self._start()
            live.update(text, refresh=True)
        except OSError:
            self._lose()

    def print(self, line: str) -> None:
        """Print a line that stays."""
        if self._gone:
            return
        try:
            if self._live is not None:
                self._console.print(Text(line), soft_wrap=True)
            else:
                self._console.file.write(line + "\n")
                self._console.file.flush()
        except OSError:
            self._lose()

    def print_parts(self, parts: Sequence[str]) -> None:
        """Print parts as a line that stays; on a terminal too narrow for it, as several."""
        width = self._console.width if self._console.is_terminal else 0
        lines: list[str] = []
        for part in parts:
            if lines and (not width or len(f"{lines[-1]}  {part}") <= width):
                lines[-1] += f"  {part}"
            else:
                lines.append(f"  {part}" if lines else part)
        self.print("\n".join(lines))

    def stop(self) -> None:
        """Take the line away and give the terminal back."""
        live, self._live = self._live, None
        self._drawn.clear()
        if live is None:
            return
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
        streams = {id(sys.stdout): "stdout", id(sys.stderr): "stderr"}
        # No thread redraws: between two wake-ups nothing happens in Python. Standard error that
        # goes to a file must go on doing so.
        live = self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stderr=sys.stderr.isatty(),
        )
        live.start()
        # A run that is given up without a word must not leave the cursor hidden.
        atexit.register(self.stop)
        # Handlers hold the stream that they were made with, which writes across the bar.
        for handler in _stream_handlers():
            name = streams.get(id(handler.stream))
            if name and handler.stream is not getattr(sys, name):
                self._handlers.append((handler, handler.stream))
                handler.setStream(getattr(sys, name))
        return live


def in_order(metrics: Mapping[str, float], known: Iterable[str]) -> dict[str, float]:
    """Return metrics in one order for all stages: the loss, then as training or validation has it.

    Example:
        >>> in_order({"train/accuracy": 0.5, "train/loss": 2.0}, [])
        {'train/loss': 2.0, 'train/accuracy': 0.5}

    Args:
        metrics: By full name, of one stage.
        known: The full names that there are, training's first.
    """
    names = dict.fromkeys(map(_bare, known))
    places = {name: place for place, name in enumerate(dict.fromkeys(["loss", *names]))}
    return dict(sorted(metrics.items(), key=lambda pair: places.get(_bare(pair[0]), len(places))))


def _bare(name: str) -> str:
    return name.partition("/")[2].removesuffix("_epoch")


class Screen(Console):
    """Rich's console, but for a reader that has gone: a run goes on without it."""

    def on_broken_pipe(self) -> None:
        """Print nothing more."""
        self.quiet = True


def _can_redraw(console: Console) -> bool:
    # rich alone takes FORCE_COLOR for a terminal; a file must get no control characters.
    terminal = console.is_interactive and console.file.isatty()
    return terminal and not os.environ.get("CI")


def _stream_handlers() -> list[logging.StreamHandler[Any]]:
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    handlers = [h for log in loggers if isinstance(log, logging.Logger) for h in log.handlers]
    return [h for h in handlers if isinstance(h, logging.StreamHandler) and hasattr(h, "stream")]
