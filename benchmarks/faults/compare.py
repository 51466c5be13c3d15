"""What two runs have left, compared bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def differences(left: Path, right: Path) -> list[str]:
    """Return in what two complete runs differ: state, metrics.csv, TensorBoard's scalars.

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
        found.append("tensorboard")
    return sorted(found)


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
    return found


def scalars(run_dir: Path) -> list[tuple[str, str, int, bytes]]:
    """Return every scalar that TensorBoard would read, in its order: run, tag, step, value."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto import event_pb2

    found = []
    for path in sorted((run_dir / "tensorboard").glob("*/events*")):
        for record in RawEventFileLoader(str(path)).Load():
            event = event_pb2.Event.FromString(record)
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name in ("scalars", ""):
                    tensor = value.tensor.SerializeToString()
                    found.append((path.parent.name, value.tag, event.step, tensor))
    return sorted(found)
