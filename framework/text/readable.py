"""Numbers as people read them: values, durations, sizes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

_UNITS = ("bytes", "kB", "MB", "GB", "TB")
_LONG_DECIMAL = re.compile(r"(?<![\w.])\d+\.\d{7,}(e[+-]?\d+)?(?![\w.])")
_STAGES = ("val/", "test/", "train/")  # of metrics, in a table of runs


def number(value: float) -> str:
    """Return the value of a metric.

    Example:
        >>> number(2.61434), number(1e-5)
        ('2.6143', '1e-05')
    """
    small = value == 0 or 1e-3 <= abs(value) < 1e5
    return f"{value:.4f}" if small else f"{value:.3g}"


def short_numbers(text: str) -> str:
    """Return text with five digits of each long decimal number, as a search draws them.

    Example:
        >>> short_numbers("optimizer.learning_rate=0.00031622776601683794")
        'optimizer.learning_rate=0.00031623'
    """
    return _LONG_DECIMAL.sub(lambda found: f"{float(found[0]):.5g}", text)


def duration(seconds: float) -> str:
    """Return how long something took.

    Example:
        >>> duration(5.04), duration(75)
        ('5.0 s', '1:15')
    """
    return f"{seconds:.1f} s" if seconds < 60 else clock_time(seconds)


def clock_time(seconds: float) -> str:
    """Return seconds as minutes and seconds, with hours if there are any; round up.

    Example:
        >>> clock_time(3.2), clock_time(3725)
        ('0:04', '1:02:05')
    """
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def size(count: float) -> str:
    """Return a number of bytes.

    Example:
        >>> size(18_955_304)
        '19.0 MB'
    """
    power = min(len(_UNITS) - 1, int(math.log(count, 1000)) if count >= 1 else 0)
    return f"{count / 1000**power:.{1 if power else 0}f} {_UNITS[power]}"


def is_rate(name: str) -> bool:
    """Return whether a value is a learning rate, which is in the logs and would crowd a line."""
    return name.startswith("train/learning_rate")


def main_metrics(names: Iterable[str], objectives: Sequence[str], most: int) -> list[str]:
    """Return the metrics that a table of runs shows: those of validation before those of the test.

    Whoever chooses a run by a table should not choose it by its test.

    Example:
        >>> main_metrics(["train/loss", "test/loss", "val/loss", "train/learning_rate"], [], 2)
        ['val/loss', 'test/loss']

    Args:
        names: What was measured; repeated names count once.
        objectives: What comes first, if anything.
        most: How many to return at most.
    """
    given = [name for name in dict.fromkeys(names) if name.startswith(_STAGES)]
    given.sort(key=lambda name: _STAGES.index(name.partition("/")[0] + "/"))
    others = (name for name in given if name not in objectives and not is_rate(name))
    return [*objectives, *others][:most]
