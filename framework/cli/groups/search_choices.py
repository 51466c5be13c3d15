"""Choices of the `search` group."""

from __future__ import annotations

from typing import Any

from framework.cli.groups.mutable import mutable
from framework.search.options import SearchOptions

OptunaConfig = mutable(SearchOptions, __name__, "OptunaConfig")

SEARCH: dict[str, Any] = {"none": {}, "optuna": OptunaConfig}
"""`search=`: what asks for the jobs of `-m` one after the other."""
