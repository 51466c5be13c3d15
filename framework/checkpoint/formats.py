"""The checkpoint formats, and how to upgrade earlier ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from framework.core.state import State

FORMAT = 3
"""The format that this version writes. It reads this one and all earlier ones."""


def upgraded(state: State, manifest: dict[str, Any]) -> State:
    """Convert a state to the current format.

    Args:
        state: The state as it was saved.
        manifest: The checkpoint's manifest, which has the format.

    Raises:
        ValueError: If the manifest belongs to another step.
    """
    if manifest["format"] == 1:
        if state["progress"]["step"] != manifest["step"]:
            raise ValueError("manifest.json is damaged: it belongs to another step")
        state = _from_1_to_2(state)
    if manifest["format"] <= 2:
        state = _from_2_to_3(state)
    return state


def manifest_of_format_1(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    """Convert the manifest of a format 1 checkpoint to the current format.

    Args:
        manifest: The manifest as it was saved; it has no checksum of its own.
        path: Directory of the checkpoint.
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
    # Format 2 added whether the step's wake-up is pending, timers, the lengths of epochs, the
    # steps at which metrics were measured, and the task's own variables.
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
    # Format 3 added the options that distinguish callbacks of one class, the layer state outside
    # variables, and the task's own state on the host.
    callbacks = {k: {"options": "", "state": v} for k, v in state["callbacks"].items()}
    return {"layers": {}, "host": None, **state, "callbacks": callbacks}
