"""Convert words from a shell into overrides that Hydra's grammar can parse."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

# A quoted text, or a word that contains a tilde, with its interpolations and escapes.
_INNER = r"\\.|\$\{(?:[^{}]|\$\{[^{}]*\})*\}"
_WORDS = re.compile(
    r"""'(?:\\.|[^'\\])*' | "(?:\\.|[^"\\])*" |
    (?P<word> (?:INNER|[^~,:\[\]{}()'"\\\s])* ~ (?:INNER|[^,\[\]{}()"\\])* )""".replace(
        "INNER", _INNER
    ),
    re.VERBOSE | re.DOTALL,
)
# Values without anything that has a meaning in Hydra's grammar but commas between them.
_PLAIN = re.compile(r"[^\[\]{}()'\"\\\s$~]+")


def with_quoted_paths(override: str) -> str:
    """Return an override with quotes around every value that holds a `~`, or is text with a `=`.

    A shell leaves `data.dir=~/data` and `run_dir=runs/s/0_seed=1` unchanged, but Hydra's grammar
    allows these characters only inside quotes. A tilde before the key, which removes it, is left
    alone.

    Example:
        >>> with_quoted_paths("task.dirs=[~/a,b]")
        "task.dirs=['~/a',b]"
    """
    key, equals, value = override.partition("=")
    if "=" in value and _PLAIN.fullmatch(value):
        return key + equals + ",".join(quoted(v) if "=" in v else v for v in value.split(","))
    return key + equals + _WORDS.sub(_quoted, value)


def _quoted(match: re.Match[str]) -> str:
    word = match["word"]
    if not word:
        return match[0]
    text = word.rstrip()  # trailing blanks do not belong to the value
    # Inside quotes, the shell's escapes of the grammar's special characters are unnecessary.
    bare = re.sub(r"\\([\\,:=\[\]{}()'\s])", r"\1", text)
    inside = bare.replace("'", "\\'")
    if inside.endswith("\\"):
        inside += "\\"
    return f"'{inside}'"


def again(command: Sequence[str], **values: object) -> str:
    """Return a command line that can be run again, with these values, such as its run_dir.

    Example:
        >>> again(["task=mine", "seed=1"], run_dir=Path("runs/a b"))
        "python -m framework task=mine seed=1 'run_dir='\"'\"'runs/a b'\"'\"''"
    """
    words = [word for word in command if word.partition("=")[0] not in values]
    for key, value in values.items():
        text = str(value)
        simple = re.fullmatch(r"[\w./+-]+", text)
        inner = text.replace("'", "\\'")
        words.append(f"{key}={text}" if simple else f"{key}='{inner}'")
    program = "keras-task" if Path(sys.argv[0]).name == "keras-task" else "python -m framework"
    return f"{program} {shlex.join(words)}"


def key_of(override: str) -> str:
    """Return the key of an override, without a leading sign."""
    return override.lstrip("+~").partition("=")[0]


def value_of(override: str) -> str:
    """Return the value of an override as plain text, without its quotes.

    Example:
        >>> value_of("run_dir='~/my runs'")
        '~/my runs'
    """
    value = override.partition("=")[2].strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].replace(f"\\{value[0]}", value[0])
    return value


def quoted(value: object) -> str:
    """Return a value in quotes that Hydra's grammar reads as text."""
    return "'" + str(value).replace("'", "\\'") + "'"
