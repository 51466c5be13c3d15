"""Selects runs by an expression, such as `seed > 1 and status == completed`."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from framework.errors import UserError, closest
from framework.runs.finished_run import RunRecord

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<text>'[^']*'|"[^"]*") |
    (?P<sign><=|>=|==|!=|=|<|>) |
    (?P<bracket>[()]) |
    (?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w./-])) |
    (?P<word>[^\s()<>=!'"]+)
    )""",
    re.VERBOSE,
)
_SIGNS: dict[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "==": operator.eq, "=": operator.eq, "!=": operator.ne,
}  # fmt: skip
_WORDS = {"true": True, "false": False, "null": None}

Test = Callable[[RunRecord], bool]


def selecting(expression: str, runs: Sequence[RunRecord]) -> Test:
    """Return the test that an expression stands for.

    A comparison has a name on its left: an option (`optimizer.learning_rate`), a metric
    (`val/loss`), `status`, `task`, `time` (seconds) or `best`. On its right is a number, `true`,
    `false`, `null`, or a text, with or without quotes. `and`, `or`, `not` and brackets combine
    comparisons. A run without the value is not selected, except by `!=` and `== null`.

    Example:
        >>> test = selecting("optimizer.learning_rate > 0.001 and not status == failed", runs)
        >>> [run.name for run in runs if test(run)]
        ['1_optimizer.learning_rate=0.01']

    Args:
        expression: The expression.
        runs: All runs, to check that the names mean something in at least one of them.

    Raises:
        UserError: It cannot be parsed, or names something that no run has.
    """
    return _Parser(expression, runs).parse()


class _Parser:
    def __init__(self, expression: str, runs: Sequence[RunRecord]) -> None:
        self._expression, self._runs = expression, runs
        self._tokens = list(self._split())
        self._place = 0

    def parse(self) -> Test:
        test = self._any()
        if self._place < len(self._tokens):
            raise self._mistake(f"{self._tokens[self._place][1]!r} is not expected there")
        return test

    def _split(self) -> Iterator[tuple[str, str]]:
        place, text = 0, self._expression.rstrip()
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None or match.lastgroup is None:
                raise self._mistake(f"{text[place:].strip()!r} cannot be read")
            place = match.end()
            yield match.lastgroup, match[match.lastgroup]

    def _any(self) -> Test:
        tests = [self._all()]
        while self._take("word", "or"):
            tests.append(self._all())
        return lambda run: any(test(run) for test in tests)

    def _all(self) -> Test:
        tests = [self._one()]
        while self._take("word", "and"):
            tests.append(self._one())
        return lambda run: all(test(run) for test in tests)

    def _one(self) -> Test:
        if self._take("word", "not"):
            test = self._one()
            return lambda run: not test(run)
        if self._take("bracket", "("):
            test = self._any()
            if not self._take("bracket", ")"):
                raise self._mistake("a bracket is not closed")
            return test
        return self._comparison()

    def _comparison(self) -> Test:
        kind, name = self._next("a name")
        if kind != "word":
            raise self._mistake(f"{name!r} is not a name")
        if all(run.value(name) is None for run in self._runs):
            raise UserError(
                f"no run has {name!r}", where=f"--where {self._expression!r}",
                fix=closest(name, known_names(self._runs)),
            )  # fmt: skip
        kind, sign = self._next("a comparison")
        if kind != "sign":
            raise self._mistake(f"{sign!r} is not one of {' '.join(_SIGNS)}")
        kind, text = self._next("a value")
        if kind not in ("number", "text", "word"):
            raise self._mistake(f"{text!r} is not a value")
        wanted: Any = text
        if kind == "number":
            wanted = float(text)
        elif kind == "text":
            wanted = text[1:-1]
        elif text.lower() in _WORDS:
            wanted = _WORDS[text.lower()]
        return lambda run: _holds(run.value(name), sign, wanted)

    def _next(self, wanted: str) -> tuple[str, str]:
        if self._place >= len(self._tokens):
            raise self._mistake(f"{wanted} is missing at the end")
        self._place += 1
        return self._tokens[self._place - 1]

    def _take(self, kind: str, text: str) -> bool:
        found = self._tokens[self._place : self._place + 1] == [(kind, text)]
        self._place += found
        return found

    def _mistake(self, what: str) -> UserError:
        return UserError(
            f"the expression cannot be read: {what}",
            where=f"--where {self._expression!r}",
            fix='Write comparisons, such as "optimizer.learning_rate > 0.001 and val/loss < 2".',
        )


def known_names(runs: Sequence[RunRecord]) -> list[str]:
    """Return what runs can be selected and sorted by: facts, metrics and overrides."""
    names = dict.fromkeys(["status", "task", "time", "best", "name"])
    for run in runs:
        names |= dict.fromkeys([*run.metrics, *run.overrides])
    return list(names)


def _holds(value: Any, sign: str, wanted: Any) -> bool:
    if value is None or wanted is None:
        return bool(_SIGNS[sign](value, wanted)) if sign in ("==", "=", "!=") else False
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number != (isinstance(wanted, float)) and not isinstance(wanted, bool):
        value, wanted = str(value), _text(wanted)
    try:
        return bool(_SIGNS[sign](value, wanted))
    except TypeError:
        return False


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
