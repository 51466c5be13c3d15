"""Make text from outside sources safe for terminals, tables and logs.

Names, values, paths and the messages of other libraries may contain anything: sequences that
move a terminal's cursor or set its window title, Unicode overrides that reverse the text
direction, brackets that Rich reads as markup. All displayed text passes through this module.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_KEPT = "\n\t\u200c\u200d"  # the last two join letters, in Persian and in emoji
# One per process, because a process has one log and one terminal.
_secrets: dict[str, str] = {}
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def without_colours(text: object) -> str:
    """Return a text without terminal colours, which Keras puts into its messages.

    Example:
        >>> without_colours("\\x1b[1mDense\\x1b[0m failed")
        'Dense failed'
    """
    return _COLOURS.sub("", str(text))


def plain(text: object) -> str:
    """Return a text in which everything is visible: characters that control a terminal are escaped.

    Control characters, invisible direction marks and lone surrogates become Python escapes. Line
    ends and tabs stay.

    Example:
        >>> plain("a\\x1b[2Jb")
        'a\\\\x1b[2Jb'
    """
    shown = hidden(str(text))
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(map(_visible, shown))


@contextmanager
def hiding(secrets: Mapping[str, str]) -> Iterator[None]:
    """Replace these values in everything that is shown or written while the body runs."""
    former = dict(_secrets)
    _secrets.update(secrets)
    try:
        yield
    finally:
        _secrets.clear()
        _secrets.update(former)


def hidden(text: str) -> str:
    """Return a text with the values hidden that `hiding` covers."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _secrets[secret])
    return text


def one_line(text: object) -> str:
    """Return the text as `plain` does, without line ends, for a name or a table cell.

    Example:
        >>> one_line("a\\nb")
        'a\\\\nb'
    """
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


class PlainText(logging.Filter):
    """Make a logger's messages plain text, whichever handler emits them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message; keep every record."""
        record.msg, record.args = plain(record.getMessage()), None
        return True


class PlainFormatter(logging.Formatter):
    """Format records as plain text; tracebacks may quote untrusted text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the formatted record."""
        return plain(super().format(record))


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
