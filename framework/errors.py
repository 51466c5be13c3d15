"""The errors that a user sees."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from framework.text.plain import plain

SEE_TRACEBACK = "Correct it there. -v shows the whole traceback."
"""The way out of an error in code that is not ours."""


class UserError(Exception):
    """A mistake in the configuration, the data, or the task's code.

    The command line prints it on one screen without a traceback and exits with code 2. Raise it
    wherever the reader of the message can do something about it, and say what.

    Example:
        >>> print(UserError("batch_size is -1", where="data.batch_size", fix="Use 1 or more."))
        batch_size is -1
          where: data.batch_size
          fix:   Use 1 or more.

    Args:
        what: What is wrong, as one sentence.
        where: The file, option or function it was found in.
        fix: The way out.
    """

    def __init__(self, what: str, *, fix: str, where: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(_screen(what, where, fix))


class TrainingFailed(Exception):
    """A run that went wrong in the middle, such as a loss that became NaN.

    The command line prints it on one screen without a traceback and exits with code 1.

    Args:
        what: What happened, as one sentence.
        where: In which step or tensor.
        fix: What to try.
    """

    def __init__(self, what: str, *, fix: str, where: str | None = None) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(_screen(what, where, fix))


def _screen(what: str, where: str | None, fix: str) -> str:
    lines = [what]
    if where:
        lines.append(f"  where: {where}")
    lines.append("  fix:   " + fix.replace("\n", "\n         "))
    return plain("\n".join(lines))


def choice(word: str, choices: Iterable[str]) -> str:
    """Return a hint for a choice that is not one: the nearest, and all that there are.

    Example:
        >>> choice("adm", ["adam", "sgd"])
        "Did you mean 'adam'? Choose one of: adam, sgd."

    Args:
        word: What was typed.
        choices: What would have been right, in the order to show.

    Returns:
        One or two sentences.
    """
    names = list(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    meant = f"Did you mean '{near[0]}'? " if near else ""
    return f"{meant}Choose one of: {', '.join(names)}."


def closest(word: str, choices: Iterable[str]) -> str:
    """Return a hint that names what is nearest to a mistyped name, of which there may be many.

    Example:
        >>> closest("adm", ["adam", "sgd"])
        "Did you mean 'adam'?"
        >>> closest("zzz", ["adam", "sgd"])
        'Choose one of: adam, sgd.'

    Args:
        word: What was typed.
        choices: What would have been right.

    Returns:
        One sentence.
    """
    names = sorted(choices)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"Did you mean '{near[0]}'?" if near else f"Choose one of: {', '.join(names)}."
