"""What saving costs: in speed, in room, and when a run is continued."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any


def cost_of_saving(
    directory: Path, *, rounds: int = 5, seconds: float = 25.0, units: int = 2048
) -> dict[str, Any]:
    """Measure steps per second with a save in the background every 10 seconds, and without.

    Args:
        directory: Where to.
        rounds: Turns of each.
        seconds: Length of a turn.
        units: Width of two layers; 2048 make a state of 100 MB with Adam's.

    Returns:
        `ratio` of the medians, `megabytes` of a checkpoint, and each turn's rate.
    """
    import keras
    import numpy as np

    from framework import Data, Task, Trainer
    from framework.callbacks.checkpoint import Checkpoint

    class Wide(Task):
        def build_model(self) -> keras.Model:
            dense = keras.layers.Dense
            return keras.Sequential(
                [keras.Input((units,)), dense(units), dense(units), keras.layers.Dense(1)]
            )

        def train_step(self, batch: Any) -> Any:
            x, y = batch
            return keras.ops.mean((self.model(x, training=True) - y) ** 2)

        def eval_step(self, batch: Any) -> None:
            pass

    random = np.random.default_rng(0)
    x = random.standard_normal((512, units), dtype=np.float32)
    data = Data(train=(x, x[:, :1]), batch_size=32)
    rates: dict[bool, list[float]] = {False: [], True: []}
    size = 0
    for turn in range(rounds):
        for saves in (False, True):
            run_dir = directory / f"saving-{turn}-{saves}"
            trainer = Trainer(
                max_time=f"{seconds}s",
                run_dir=run_dir,
                callbacks=[Checkpoint(save_every="10s" if saves else None, keep_best=0)],
                enable_progress_bar=False,
                enable_model_summary=False,
                max_epochs=10**9,
            )
            trainer.fit(Wide(), data)
            rates[saves].append(trainer.progress.step / trainer.progress.seconds)
            size = sum(p.stat().st_size for p in trainer.checkpoints.path(
                trainer.checkpoints.steps()[-1]).iterdir())  # fmt: skip
    ratio = statistics.median(rates[True]) / statistics.median(rates[False])
    return {"ratio": ratio, "megabytes": size / 1e6, "with": rates[True], "without": rates[False]}


def room_of_checkpoint(directory: Path) -> float:
    """Return the size of a checkpoint of the lesson's network, over that of its arrays."""
    import keras
    import numpy as np

    from benchmarks.workloads import cifar100
    from framework import Trainer

    workload = cifar100(rows=64)
    trainer = Trainer(max_steps=2, run_dir=directory / "room", enable_progress_bar=False,
                      enable_model_summary=False)  # fmt: skip
    loss = keras.losses.SparseCategoricalCrossentropy()
    trainer.fit(workload.task(loss=loss, optimizer="adam"), workload.data)
    path = trainer.checkpoints.path(2)
    with np.load(path / "arrays.npz") as arrays:
        held = sum(array.nbytes for array in arrays.values())
    return sum(file.stat().st_size for file in path.iterdir()) / held


def first_step_after(directory: Path, rounds: int = 5) -> dict[int, float]:
    """Measure the seconds from `fit` to its first new step, after 1 epoch and after 10.

    Returns:
        The median by epochs done.
    """
    import keras
    import numpy as np

    from framework import Callback, Data, Every, Trainer
    from framework.loggers.csv import CSVLogger
    from framework.loggers.tensorboard import TensorBoardLogger
    from tasks.classifier import Classifier

    class Dense(Classifier):
        def build_model(self) -> keras.Model:
            return keras.Sequential([keras.Input((16,)), keras.layers.Dense(10, "softmax")])

    class FirstStep(Callback):
        every = Every("1st")
        at = 0.0

        def on_wake(self, trainer: Any) -> None:
            self.at = time.perf_counter()

    random = np.random.default_rng(0)
    x = random.standard_normal((50_000, 16), dtype=np.float32)
    data = Data(train=(x, (x[:, 0] > 0).astype("int64")), batch_size=32)

    def fit(run_dir: Path, **options: Any) -> float:
        loss = keras.losses.SparseCategoricalCrossentropy()
        first = FirstStep()
        stepping = "max_steps" in options
        trainer = Trainer(
            run_dir=run_dir,
            callbacks=[first] if stepping else [],
            loggers=[CSVLogger(), TensorBoardLogger()],
            enable_progress_bar=False,
            enable_model_summary=False,
            **options,
        )
        began = time.perf_counter()
        trainer.fit(Dense(loss=loss, optimizer="adam"), data)
        return first.at - began

    seconds: dict[int, list[float]] = {1: [], 10: []}
    for epochs in seconds:
        fit(directory / f"resume-{epochs}", max_epochs=epochs)
    for turn in range(rounds):
        for epochs, found in seconds.items():
            steps = 1563 * epochs + turn + 1
            found.append(fit(directory / f"resume-{epochs}", max_epochs=99, max_steps=steps))
    return {epochs: statistics.median(found) for epochs, found in seconds.items()}
