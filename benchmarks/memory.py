"""Peak memory of a CIFAR-100 run, beside that of importing TensorFlow and building the model.

Each of the two is a process of its own: `python -m benchmarks.memory base|run [steps]` prints its
peak resident memory in bytes.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRAIN_ROWS, TEST_ROWS = 50_000, 10_000
DATA_BYTES = (TRAIN_ROWS + TEST_ROWS) * 32 * 32 * 3  # as uint8
BAR = 3.0
COLUMNS = ["process", "peak MB", "data sets", "bar"]


def measure(steps: int = 200) -> tuple[int, int]:
    """Return the peaks of both processes in bytes: the base, and the run.

    Args:
        steps: Training steps, validation batches and test batches of the run.
    """
    return _peak("base", steps), _peak("run", steps)


def rows(base: int, run: int) -> list[list[str]]:
    """Return the table's rows."""
    return [
        ["import TensorFlow, build the model", f"{base / 1e6:,.0f}", "", ""],
        [
            "train, validate, test",
            f"{run / 1e6:,.0f}",
            f"+ {(run - base) / DATA_BYTES:.2f}",
            f"{BAR:.2f}",
        ],
    ]


def missed(base: int, run: int) -> list[str]:
    """Return a line if the bar is missed."""
    above = (run - base) / DATA_BYTES
    return [f"memory: {above:.2f} data sets above the base, wanted {BAR}"] if above > BAR else []


def _peak(what: str, steps: int) -> int:
    command = [sys.executable, "-m", "benchmarks.memory", what, str(steps)]
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=env, text=True, cwd=ROOT)
    return int(done.stdout.split()[-1])


def _base() -> None:
    import tensorflow as tf

    from benchmarks.workloads import NETWORK_B
    from tasks.cifar100_subclass import Network

    Network(**vars(NETWORK_B))(tf.zeros((32, 32, 32, 3)))


def _run(steps: int) -> None:
    import keras
    import numpy as np

    from benchmarks.workloads import NETWORK_B, divided
    from framework import Data, Trainer
    from tasks.cifar100_subclass import Cifar100Subclass

    random = np.random.default_rng(0)

    def images(rows: int) -> tuple[np.ndarray, np.ndarray]:
        x = random.integers(0, 256, (rows, 32, 32, 3), dtype=np.uint8)
        return x, random.integers(0, 100, rows, dtype=np.int64)

    task = Cifar100Subclass(
        model=NETWORK_B,
        loss=keras.losses.SparseCategoricalCrossentropy(),
        metrics={"accuracy": keras.metrics.sparse_categorical_accuracy},
    )
    data = Data(train=images(TRAIN_ROWS), test=images(TEST_ROWS), val_fraction=0.1, map=divided)
    trainer = Trainer(
        max_steps=steps,
        limit_val_batches=steps,
        limit_test_batches=steps,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(task, data)
    trainer.test(task, data)


def _own_peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        # Not ru_maxrss: on Linux it counts what the parent held when it forked.
        (line,) = (x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    _base() if sys.argv[1] == "base" else _run(int(sys.argv[2]))
    print(_own_peak())
