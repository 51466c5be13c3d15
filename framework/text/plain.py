"""Text that comes from outside, made fit for a terminal, a table, a log.

Names, values, paths and the messages of other libraries may hold anything: sequences that move a
terminal's cursor or retitle its window, overrides that turn the order of letters round, brackets
that Rich reads as markup. All that this package shows goes through here.
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
# One for the process, as its log and its terminal are.
_secrets: dict[str, str] = {}
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def without_colours(text: object) -> str:
    """Return a text without a terminal's colours, which Keras puts into its messages.

    Example:
        >>> without_colours("\\x1b[1mDense\\x1b[0m failed")
        'Dense failed'
    """
    return _COLOURS.sub("", str(text))


def plain(text: object) -> str:
    """Return a text with everything in it visible: what would act on a terminal is spelled out.

    Control characters, invisible marks of direction and halves of characters become their Python
    escapes. Line ends and tabs stay.

    Example:
        >>> plain("a\\x1b[2Jb")
        'a\\\\x1b[2Jb'

    Args:
        text: Anything; its `str`.
    """
    shown = hidden(str(text))
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(map(_visible, shown))


@contextmanager
def hiding(secrets: Mapping[str, str]) -> Iterator[None]:
    """Have everything that is shown or written meanwhile name these values, not tell them.

    Args:
        secrets: What to say instead, by value.
    """
    former = dict(_secrets)
    _secrets.update(secrets)
    try:
        yield
    finally:
        _secrets.clear()
        _secrets.update(former)


def hidden(text: str) -> str:
    """Return a text without what `hiding` hides."""
    for secret in sorted(_secrets, key=len, reverse=True):
        text = text.replace(secret, _secrets[secret])
    return text


def one_line(text: object) -> str:
    """Return the same without line ends, for a name or a cell of a table.

    Example:
        >>> one_line("a\\nb")
        'a\\\\nb'
    """
    return plain(text).replace("\n", "\\n").replace("\t", "\\t")


class PlainText(logging.Filter):
    """Has a logger's messages hold plain text only, whoever handles them."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the message; every record passes."""
        record.msg, record.args = plain(record.getMessage()), None
        return True


class PlainFormatter(logging.Formatter):
    """Writes plain text only: tracebacks quote what others wrote."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's lines."""
        return plain(super().format(record))


@lru_cache(maxsize=4096)
def _visible(character: str) -> str:
    if character in _KEPT or unicodedata.category(character) not in _UNSEEN:
        return character
    return character.encode("unicode_escape").decode("ascii")
