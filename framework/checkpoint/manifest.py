"""`manifest.json`: the description of a checkpoint."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from framework.core.safe_files import NotAFile

MANIFEST = "manifest.json"
FORMAT = 3
"""What this version writes, and the only format that it reads."""


def signed(manifest: dict[str, Any]) -> str:
    """Return a manifest as text, with a checksum of its own."""
    text = json.dumps(manifest, sort_keys=True)
    return json.dumps(manifest | {"sha256": hashlib.sha256(text.encode()).hexdigest()}, indent=1)


def well_formed(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest after checking the types of its entries."""
    judged = manifest["judged"]
    good = type(manifest["step"]) is int and isinstance(manifest["files"], dict)
    if judged is not None:
        good = good and isinstance(judged["metric"], str) and judged["mode"] in ("min", "max")
        good = good and type(judged["value"]) in (int, float) and abs(judged["value"]) < math.inf
    if not good or type(manifest["permanent"]) is not bool:
        raise ValueError(f"{MANIFEST} is damaged")
    return manifest


def reason(error: Exception) -> str:
    """Return a short reason why a checkpoint cannot be read."""
    if isinstance(error, FileNotFoundError):
        return f"{Path(str(error.filename)).name} is missing"
    if isinstance(error, (UnicodeDecodeError, json.JSONDecodeError, RecursionError)):
        return "its JSON is damaged"
    if isinstance(error, KeyError):
        return f"its key {error} is missing"
    if isinstance(error, NotAFile):
        return f"{Path(str(error.filename)).name}: {error.strerror}"
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
