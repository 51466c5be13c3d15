"""Output that carries the number of the job it comes from."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO


class _Numbered:
    """A stream that begins every line with the same words."""

    def __init__(self, stream: TextIO, prefix: str) -> None:
        self._stream, self._prefix, self._starts = stream, prefix, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def isatty(self) -> bool:
        return False  # jobs side by side cannot share one line that is redrawn

    def write(self, text: str) -> int:
        parts = []
        for line in text.splitlines(keepends=True):
            parts.append(self._prefix + line if self._starts else line)
            self._starts = line.endswith("\n")
        self._stream.write("".join(parts))
        return len(text)


@contextmanager
def numbered_output(number: int) -> Iterator[None]:
    """Begin every line that the body prints with a job's number.

    Example:
        >>> with numbered_output(3):
        ...     print("epoch 1")
        #3  epoch 1
    """
    former = sys.stdout, sys.stderr
    made: list[Any] = [_Numbered(stream, f"#{number}  ") for stream in former]
    sys.stdout, sys.stderr = made
    try:
        yield
    finally:
        sys.stdout, sys.stderr = former
