"""How runs end."""

from __future__ import annotations

PRUNED = "pruned"
"""A search ended the run early, as it was not going to be among the best."""

STOPPED = ("stopped", PRUNED)
"""On purpose, before the length that was asked for."""

ENDED = ("completed", *STOPPED)
"""As it should: there is nothing left to run."""
