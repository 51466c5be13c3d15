"""Runs on every kind of data that are killed in mid-epoch: `python -m benchmarks.own_data.killed`.

Each part of a run is a process of its own, which kills itself with SIGKILL after a step.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
ROWS, BATCH, EPOCHS = 44, 8, 3  # 6 steps an epoch, the last one of 4 rows
STEPS = EPOCHS * -(-ROWS // BATCH)
KINDS = ("arrays", "memmap", "indexed", "workers", "folder", "decoded", "csv", "parquet")


class Rows:
    """Rows that are read by a list of their numbers."""

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.x = random.normal(size=(ROWS, 12)).astype("float32")
        self.y = random.integers(0, 3, ROWS)

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, rows: Any) -> Any:
        return self.x[rows], self.y[rows]


def data_of(kind: str, folder: Path) -> Any:
    """Return the `Data` of a kind; files are written into the folder by whoever comes first."""
    from framework import Data
    from framework.datasets.image_folder import image_folder
    from framework.datasets.table_data import table_data

    rows = Rows()
    if kind in ("folder", "decoded"):
        place = _written(folder / "images", _write_images)
        resident = kind == "decoded" or None
        return image_folder(place, size=(2, 2), batch_size=BATCH, resident=resident)
    if kind in ("csv", "parquet"):
        place = _written(folder / f"table.{kind}", _write_table)
        return table_data(place, target="y", batch_size=BATCH)
    if kind == "memmap":
        place = _written(folder / "x.npy", lambda path: np.save(path.open("wb"), rows.x))
        given = np.load(place, mmap_mode="r"), rows.y
        return Data(train=given, batch_size=BATCH, resident=False)
    if kind == "arrays":
        return Data(train=(rows.x, rows.y), batch_size=BATCH)
    return Data(train=rows, batch_size=BATCH, workers=2 if kind == "workers" else 0)


def _written(path: Path, write: Any) -> Path:
    if not path.exists():
        aside = path.with_name(f"aside-{path.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write(aside)
        aside.rename(path)
    return path


def _write_images(folder: Path) -> None:
    import tensorflow as tf

    rows = Rows()
    for number, (values, label) in enumerate(zip(rows.x, rows.y, strict=True)):
        pixels = np.clip(128 + 40 * values.reshape(2, 2, 3), 0, 255).astype(np.uint8)
        place = folder / str(label) / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(tf.io.encode_png(pixels).numpy())


def _write_table(path: Path) -> None:
    import pyarrow
    from pyarrow import csv, parquet

    rows = Rows()
    columns = {f"x{n}": rows.x[:, n] for n in range(12)} | {"y": rows.y}
    write = csv.write_csv if path.suffix == ".csv" else parquet.write_table
    write(pyarrow.table(columns), path)


def run(kind: str, folder: Path, run_dir: Path, last: int) -> np.ndarray:
    """Train, or continue; with `last`, this process dies after that step. Return the weights."""
    import keras
    import tensorflow as tf

    from framework import Callback, Every, Task, Trainer
    from framework.callbacks.checkpoint import Checkpoint

    class Classify(Task):
        def build_model(self) -> keras.Model:
            layers = [keras.layers.Flatten(), keras.layers.Dropout(0.3)]
            return keras.Sequential([*layers, keras.layers.Dense(3, activation="softmax")])

        def train_step(self, batch: Any) -> Any:
            x, y = batch
            x = x["numbers"] if isinstance(x, dict) else x
            losses = keras.losses.sparse_categorical_crossentropy(y, self.model(x, training=True))
            return tf.reduce_mean(losses)

        def eval_step(self, batch: Any) -> None:
            self.log("loss", self.train_step(batch))

    class Dies(Callback):
        every = Every("1st")

        def on_wake(self, trainer: Trainer) -> None:
            if trainer.progress.step == last:
                trainer.saver.wait()
                os.kill(os.getpid(), signal.SIGKILL)

    trainer = Trainer(
        max_epochs=EPOCHS,
        run_dir=run_dir,
        engine="graph",
        callbacks=[Checkpoint(save_every="2st"), Dies()],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    task = Classify()
    trainer.fit(task, data_of(kind, folder))
    assert trainer.progress.step == STEPS
    return np.concatenate([weight.ravel() for weight in task.model.get_weights()])


def start(kind: str, folder: Path, run_dir: Path, last: int = 0) -> subprocess.Popen[bytes]:
    """Start `run` in a process of its own, which leaves the weights in the run directory."""
    words = [kind, str(folder), str(run_dir), str(last)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": path}
    command = [sys.executable, "-m", "benchmarks.own_data.killed", *words]
    return subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.PIPE)


def finished(process: subprocess.Popen[bytes], code: int) -> None:
    """Wait for a process, which must end with this code."""
    _, errors = process.communicate(timeout=180)
    assert process.returncode == code, errors.decode()


def check(kind: str, folder: Path, kills: int) -> tuple[list[int], bool]:
    """Return after which steps a run was killed, and whether it ended with the unbroken bits."""
    whole = start(kind, folder, folder / "whole")
    finished(whole, 0)
    steps = sorted(random.sample(range(1, STEPS), kills))
    for step in steps:
        finished(start(kind, folder, folder / "killed", step), -signal.SIGKILL)
    finished(start(kind, folder, folder / "killed"), 0)
    bits = [np.load(folder / name / "weights.npy") for name in ("whole", "killed")]
    return steps, bool(np.array_equal(*bits))


if __name__ == "__main__":
    given_kind, *places, given_last = sys.argv[1:]
    weights = run(given_kind, Path(places[0]), Path(places[1]), int(given_last))
    np.save(Path(places[1]) / "weights.npy", weights)
