"""Formats of checkpoints: what has changed from one to the next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from framework.core.state import State

FORMAT = 3
"""What this version writes. It reads this one and every earlier one."""


def upgraded(state: State, manifest: dict[str, Any]) -> State:
    """Return a state of an earlier format as one of the present.

    Args:
        state: As it was saved.
        manifest: Names the format.

    Raises:
        ValueError: The manifest is of another state.
    """
    if manifest["format"] == 1:
        if state["progress"]["step"] != manifest["step"]:
            raise ValueError("manifest.json is damaged: it is of another step")
        state = _from_1_to_2(state)
    if manifest["format"] <= 2:
        state = _from_2_to_3(state)
    return state


def manifest_of_format_1(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint of format 1 as one of the present.

    Args:
        manifest: As it was saved; it had no checksum of its own.
        path: The checkpoint's directory.
    """
    try:
        best = json.loads((path.parent / "best.json").read_text())
    except (OSError, ValueError):
        best = {}
    judged = None
    if best.get("step") == manifest["step"]:
        judged = {"metric": best["metric"], "value": best["value"], "mode": "min"}
    return {
        "format": 1,
        "step": manifest["step"],
        "judged": judged,
        "permanent": False,
        "files": manifest["sha256"],
    }


def _from_1_to_2(state: State) -> State:
    # 2 added: whether the step's wake-up is still to come, timers, the lengths of epochs, the
    # steps at which metrics were measured, and variables that a task holds itself.
    logbook = state["logbook"]
    step = state["progress"]["step"]
    callbacks = {k: v for k, v in state["callbacks"].items() if not k.startswith("Checkpoint-")}
    return state | {
        "callbacks": callbacks,
        "progress": state["progress"] | {"pending": ""},
        "ending": {"time_began": 0.0},
        "epochs": {"learnt": {}},
        "timers": {},
        "held": {},
        "closing": {},
        "seed": {},
        "logbook": logbook | {"measured": dict.fromkeys(logbook["latest"], step)},
    }


def _from_2_to_3(state: State) -> State:
    # 3 added: what tells callbacks of one class apart, what layers keep beside variables, and a
    # task's own state on the host.
    callbacks = {k: {"options": "", "state": v} for k, v in state["callbacks"].items()}
    return {"layers": {}, "host": None, **state, "callbacks": callbacks}
