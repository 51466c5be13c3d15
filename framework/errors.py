"""The errors that users see."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from framework.text.escape import plain

SEE_TRACEBACK = "Correct it there. -v shows the full traceback."
"""The fix for an error in the user's own code."""


class _Explained(Exception):
    def __init__(self, what: str, *, fix: str, where: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        lines = [what, f"  where: {where}"] if where else [what]
        lines.append("  fix:   " + fix.replace("\n", "\n         "))
        super().__init__(plain("\n".join(lines)))


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


def choice(word: str, choices: Iterable[str]) -> str:
    """Return a hint for an invalid choice: the nearest valid one, if one is, and all of them.

    Example:
        >>> choice("adm", ["adam", "sgd"])
        "Did you mean 'adam'? Choose one of: adam, sgd."
        >>> choice("float17", ["float32", "float64"])
        'Choose one of: float32, float64.'
    """
    names = list(choices)
    near = difflib.get_close_matches(word, names, n=2, cutoff=0.6)
    shares = [difflib.SequenceMatcher(None, name, word).ratio() for name in near]
    only = len(near) == 1 or (near and shares[0] > shares[1])
    meant = f"Did you mean '{near[0]}'? " if only else ""
    return f"{meant}Choose one of: {', '.join(names)}."


def closest(word: str, choices: Iterable[str]) -> str:
    """Return a hint with the valid names nearest to a mistyped one, of which there may be many.

    Example:
        >>> closest("adm", ["adam", "sgd"])
        "Did you mean 'adam'?"
        >>> closest("zzz", ["adam", "sgd"])
        'Choose one of: adam, sgd.'
    """
    names = sorted(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else f"Choose one of: {', '.join(names)}."
