"""Reads single options from a run's `config.yaml`, without parsing all of it."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path
from typing import Any

from framework.core.safe_files import read_bytes

_MAX_BYTES = 2**24
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?|[-+]?\.?(inf|nan)", re.IGNORECASE)
_LINE = re.compile(r"(?P<indent> *)(?P<key>[^\s#:-][^:]*):(?: (?P<value>.*))?$")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


def scalar(text: str) -> Any:
    """Return the value that a YAML scalar or an override's text stands for.

    Example:
        >>> scalar("1e-3"), scalar("true"), scalar("'a b'"), scalar("adam")
        (0.001, True, 'a b', 'adam')
    """
    text = text.strip()
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _NUMBER.fullmatch(text):
        plain = re.sub(r"^([-+]?)\.(?=inf|nan)", r"\1", text, flags=re.IGNORECASE)
        return int(plain) if re.fullmatch(r"[-+]?\d+", plain) else float(plain)
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text


class OptionFile:
    """The options in a configuration as the framework writes it: block style, one key a line.

    Parsing a thousand files as YAML takes many seconds; looking up a key in their lines does not.

    Example:
        >>> OptionFile(Path("runs/a/config.yaml")).get("optimizer.learning_rate")
        0.001

    Args:
        path: The file; one that is missing has no options.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, key: str) -> Any:
        """Return the value of a key with dots, or None if it is missing or not a scalar."""
        return self._values.get(key)

    @cached_property
    def _values(self) -> dict[str, Any]:
        try:
            lines = read_bytes(self._path, _MAX_BYTES).decode(errors="replace").splitlines()
        except OSError:
            return {}
        found: dict[str, Any] = {}
        above: list[tuple[int, str]] = []
        for line in lines:
            match = _LINE.fullmatch(line)
            if match is None:
                continue
            indent = len(match["indent"])
            while above and above[-1][0] >= indent:
                above.pop()
            key = match["key"].strip("'\"")
            path = ".".join([*(name for _, name in above), key])
            if match["value"] is None:
                above.append((indent, key))
            else:
                found[path] = scalar(match["value"])
        return found
