"""The errors that users see."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from framework.text.escape import plain

SEE_TRACEBACK = "Correct it there. -v shows the full traceback."
"""The fix for an error in the user's own code."""


_NEAR = 0.6  # likeness of a word to what it may mean, from 0 to 1


class _Explained(Exception):
    def __init__(self, what: str, *, fix: str, where: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        lines = [what, f"  where: {where}"] if where else [what]
        lines.append("  fix:   " + fix.replace("\n", "\n         "))
        super().__init__(plain("\n".join(lines)))

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows: the message, and a traceback only of other errors."""
        if self.__cause__ is not None:
            return traceback.format_exception(self)
        return [f"{type(self).__name__}: {self}"]


class UserError(_Explained):
    """A mistake in the configuration, the data, or the task's code.

    The command line prints it on one screen without a traceback and exits with code 2. Raise it
    if the user can fix the problem, and say how.

    Example:
        >>> print(UserError("batch_size is -1", where="data.batch_size", fix="Use 1 or more."))
        batch_size is -1
          where: data.batch_size
          fix:   Use 1 or more.

    Args:
        what: The problem, in one sentence.
        where: The file, option or function in which it was found.
        fix: How to solve it.
    """


class TrainingFailed(_Explained):
    """A run that failed in the middle, for example because a loss became NaN.

    The command line prints it on one screen without a traceback and exits with code 1.

    Args:
        what: The failure, in one sentence.
        where: The step or tensor in which it happened.
        fix: What to try.
    """


def choice(
    word: str, choices: Iterable[str], aliases: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return a hint for an invalid choice: the nearest valid one, if one is, and all of them.

    Example:
        >>> choice("adm", ["adam", "sgd"])
        "Did you mean 'adam'? Choose one of: adam, sgd."
        >>> choice("float17", ["float32", "float64"])       # as near to one as to the other
        'Choose one of: float32, float64.'

    Args:
        word: The word that was typed.
        choices: The valid choices, in the order to show.
        aliases: Other names for them, which are understood, but not shown.
    """
    names = list(choices)
    known = {name: name for name in names} | dict(aliases)
    likeness = {name: difflib.SequenceMatcher(None, name, word).ratio() for name in known}
    best = max(likeness.values(), default=0.0)
    nearest = [name for name, share in likeness.items() if share == best >= _NEAR]
    meant = {name for name in nearest if name in names} or {known[name] for name in nearest}
    hint = f"Did you mean '{meant.pop()}'? " if len(meant) == 1 else ""
    return f"{hint}Choose one of: {', '.join(names)}."


def closest(word: str, choices: Iterable[str]) -> str:
    """Return a hint with the valid names nearest to a mistyped one, of which there may be many.

    Example:
        >>> closest("adm", ["adam", "sgd"])
        "Did you mean 'adam'?"
        >>> closest("zzz", ["adam", "sgd"])
        'Choose one of: adam, sgd.'
    """
    names = sorted(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=_NEAR)
    return f"Did you mean '{near[0]}'?" if near else f"Choose one of: {', '.join(names)}."
