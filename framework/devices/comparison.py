"""Compares the configuration of workers before the first step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from framework.errors import UserError
from framework.text.tables import table

_MISSING = "(none)"


def check_same(said: Sequence[Mapping[str, Any]], names: Sequence[str]) -> None:
    """Check that all workers have the same facts as the first one, by topic.

    Topics that start with `code of` may be missing in some workers, since modules are loaded on
    demand.
    """
    rows = []
    for name, theirs in zip(names[1:], said[1:], strict=True):
        for about in [*said[0], *(key for key in theirs if key not in said[0])]:
            first, other = said[0].get(about, _MISSING), theirs.get(about, _MISSING)
            if about.startswith("code of ") and _MISSING in (first, other):
                continue
            if first != other:
                rows.append((about, name, _shortened(other), _shortened(first)))
    if rows:
        raise UserError(
            "the workers do not agree on what to compute\n"
            + table(("what", "worker", "has", f"but {names[0]} has"), rows, most=20),
            where="trainer.strategy=multi_worker",
            fix="Start all of them with the same command, code, data and versions.",
        )


def plain_json(value: Any) -> Any:
    """Return a value after a JSON round trip; unsupported values become their type's name."""
    return json.loads(json.dumps(value, default=lambda v: type(v).__name__))


def _shortened(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
