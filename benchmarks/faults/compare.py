"""What two runs have left, compared bit for bit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np


def differences(left: Path, right: Path) -> list[str]:
    """Return in what two complete runs differ: state, logs, and what killed processes have left.

    Args:
        left: A run directory.
        right: Another.
    """
    found = []
    one, two = state(left), state(right)
    found += [name for name in one.keys() | two.keys() if one.get(name) != two.get(name)]
    if (left / "metrics.csv").read_bytes() != (right / "metrics.csv").read_bytes():
        found.append("metrics.csv")
    if scalars(left) != scalars(right):
        found.append("events")
    if not epochs(right) <= epochs(left):
        found.append("log.txt")
    return sorted(found + leftovers(right))


def epochs(run_dir: Path) -> set[str]:
    """Return what `log.txt` says of each epoch; of a run that was killed some may be missing."""
    lines = (run_dir / "log.txt").read_text().splitlines()
    return {line.partition(" epoch ")[2] for line in lines if " epoch " in line}


def leftovers(run_dir: Path) -> list[str]:
    """Return the files that a run should not have left: half-written, half-deleted, set aside."""
    names = {path.name: path for path in run_dir.rglob("*")}
    return sorted(
        f"left: {name}"
        for name, path in names.items()
        if (name.startswith(".") and name != ".lock")
        or name.endswith(".tmp")
        or name.startswith("damaged-")
        or (name.startswith("step-") and not (path / "manifest.json").exists())
    )


def state(run_dir: Path) -> dict[str, Any]:
    """Return the last checkpoint's leaves by path, arrays as bytes, without what time tells."""
    from framework.checkpoint.store import CheckpointStore

    store = CheckpointStore(run_dir / "checkpoints")
    found: dict[str, Any] = {"steps": store.steps()}

    def collect(tree: Any, path: str) -> None:
        if isinstance(tree, dict):
            for key, value in tree.items():
                collect(value, f"{path}/{key}")
        elif isinstance(tree, list):
            for i, value in enumerate(tree):
                collect(value, f"{path}/{i}")
        else:
            found[path] = tree.tobytes() if isinstance(tree, np.ndarray) else repr(tree)

    collect(store.load(store.find("last")), "")
    del found["/progress/seconds"]
    # A callback's arguments are the command's: where the run lies, how long it is to pause.
    arguments = re.compile(r"/callbacks/[^/]+/options")
    return {name: value for name, value in found.items() if not arguments.match(name)}


def scalars(run_dir: Path) -> list[tuple[str, str, int, bytes]]:
    """Return every scalar that TensorBoard would read, in its order: run, tag, step, value."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto import event_pb2

    found = []
    for path in sorted(run_dir.glob("*/events*")):
        for record in RawEventFileLoader(str(path)).Load():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name in ("scalars", ""):
                    tensor = value.tensor.SerializeToString()
                    found.append((path.parent.name, value.tag, event.step, tensor))
    return sorted(found)
