"""`python -m benchmarks repeat`: does a task end with the same bits when it is run again?"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

COLUMNS = ["task", "steps", "runs", "different results", "equal"]
ROOT = Path(__file__).parents[1]


def tasks() -> list[str]:
    """Return every task of the project."""
    names = sorted(path.stem for path in (ROOT / "conf/task").glob("*.yaml"))
    return [name for name in names if not name.startswith("_")]


def measure(
    data_dir: str | None,
    *,
    runs: int,
    epochs: int,
    batches: int,
    say: Callable[[str], None],
) -> list[list[str]]:
    """Run each task several times, each in a process of its own, and compare what it has learned.

    Args:
        data_dir: Where `mnist.npz` and `cifar100.npz` are. None: synthetic images.
        runs: How often to run each.
        epochs: Of each run.
        batches: Of each epoch.
        say: Called with a line for each task.

    Returns:
        The table's rows.
    """
    data = f"data.dir={data_dir}" if data_dir else "data.source=synthetic"
    rows = []
    for name in tasks():
        with tempfile.TemporaryDirectory() as directory:
            found = [
                _run(name, Path(directory, str(i)), data, epochs, batches) for i in range(runs)
            ]
        distinct = len(set(found))
        rows.append(
            [
                name,
                f"{epochs * batches}",
                f"{runs}",
                f"{distinct}",
                "yes" if distinct == 1 else "NO",
            ]
        )
        say(f"repeat: {name}: {distinct} different result{'s' if distinct > 1 else ''} of {runs}")
    return rows


def _run(name: str, run_dir: Path, data: str, epochs: int, batches: int) -> str:
    """Train once; return a hash of all weights, slots and statistics."""
    command = [sys.executable, "-m", "framework", f"task={name}", f"run_dir={run_dir}", data]
    command += [f"trainer.max_epochs={epochs}", f"trainer.limit_train_batches={batches}"]
    command += ["trainer.engine=graph", "trainer.enable_progress_bar=false"]
    command += ["trainer.limit_test_batches=0", "loggers=[]"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    (step,) = sorted((run_dir / "checkpoints").glob("step-*"))[-1:]
    tree = json.loads((step / "state.json").read_text())
    learned = {key: tree[key] for key in ("models", "optimizers", "averages", "task", "held")}
    names = sorted(_arrays(learned))
    with np.load(step / "arrays.npz") as arrays:
        return hashlib.sha256(b"".join(arrays[each].tobytes() for each in names)).hexdigest()


def _arrays(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [str(node["$array"])] if "$array" in node else []
        return own + [name for value in node.values() for name in _arrays(value)]
    return [name for value in node for name in _arrays(value)] if isinstance(node, list) else []
