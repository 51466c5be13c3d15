"""Caches earlier measurements on this machine, in a small file of the user's cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class TuningCache:
    """Store measurements by subject in one JSON file; if it cannot be read or written, none.

    Example:
        >>> remembered = TuningCache(cache_directory() / "engines.json")
        >>> remembered.put({"model": "…"}, {"variant": "loop_xla"})
        >>> remembered.get({"model": "…"})
        {'variant': 'loop_xla'}
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def get(self, subject: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the measurement of a subject, or None."""
        found = self._read().get(_key(subject))
        return found if isinstance(found, dict) else None

    def put(self, subject: Mapping[str, Any], measured: Mapping[str, Any]) -> None:
        """Keep a measurement, in the place of an earlier one of the same subject."""
        aside = self.path.with_name(f".{self.path.name}-{os.getpid()}")
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            entries = {**self._read(), _key(subject): dict(measured)}
            aside.write_text(json.dumps(entries, indent=1))
            os.replace(aside, self.path)
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            entries = json.loads(self.path.read_text())
        except (OSError, ValueError):
            return {}
        return entries if isinstance(entries, dict) else {}


def cache_directory() -> Path:
    """Return the user's cache directory for this package, which may not exist yet."""
    root = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has a relative path ignored.
    base = Path(root) if os.path.isabs(root) else Path(os.path.expanduser("~")) / ".cache"
    return base / "keras-task-framework"


def _key(subject: Mapping[str, Any]) -> str:
    text = json.dumps(subject, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
