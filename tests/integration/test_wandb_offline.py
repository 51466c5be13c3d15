"""A run that is killed and continued, as its offline files of W&B have it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from tracked import begin, columns

pytest.importorskip("wandb", reason='needs pip install ".[wandb]"')

TRAIN = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from helpers import Net, blobs, busy_data, make_trainer
from framework import Callback, Every, Histogram
from framework.callbacks import Checkpoint
from framework.loggers import CSVLogger, WandbLogger

place, die_at = sys.argv[1], int(sys.argv[2])
WRITTEN = "run/wandb/offline-run-*/run-*.wandb"


class Slow(Callback):
    every = Every("1st")

    def on_wake(self, run):
        time.sleep(0.05)
        if run.progress.step % 5 == 0:  # enough to fill the blocks in which W&B writes
            run.log_metrics({f"more/{i}": i / run.progress.step for i in range(200)})
        if run.progress.step == die_at:
            while not any(path.stat().st_size > 40_000 for path in Path().glob(WRITTEN)):
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        if run.progress.step == 13:
            run.log_images("val/pairs", np.full((1, 4, 4, 3), 0.5))
            run.log_histograms({"weights": Histogram.of(np.arange(9.0))})


hooks = sys.exit, sys.excepthook, signal.getsignal(signal.SIGTERM)
trainer = make_trainer(
    loggers=[CSVLogger(), WandbLogger(timeout=60.0)],
    callbacks=[Slow(), Checkpoint(save_every="10st")],
    max_epochs=4, run_dir=place, seed=3, log_every="5st", val_every="1ep",
)
task, data = Net(), busy_data(test=blobs(21, seed=2))
trainer.fit(task, data)
trainer.test(task, data)
assert hooks == (sys.exit, sys.excepthook, signal.getsignal(signal.SIGTERM))
sys.exit(3)
"""


def test_a_killed_run_is_one_run_with_each_value_once(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    for die_at, code in ((37, -signal.SIGKILL), (0, 3)):
        process = begin(["train.py", "run", die_at], tmp_path)
        output = "".join(process.communicate(timeout=300))
        assert process.returncode == code, output
        assert "wandb" not in output
    from framework.loggers.wandb_records import history

    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert len({path.name for path in files}) == 1  # one id
    assert len(files) == 3  # killed, continued, tested
    assert list(history(files[0]))  # not all of it was lost with the process
    rows = [row for path in files for row in history(path)]
    expected = columns(tmp_path / "run" / "metrics.csv")
    for name, points in expected.items():
        assert [(step, values[name]) for step, values in rows if name in values] == points
    assert [step for step, values in rows if "val/pairs" in values] == [13]
    (counts,) = [values["weights"]["values"] for _, values in rows if "weights" in values]
    assert sum(counts) == 9
    config = json.loads((tmp_path / "run" / "trackers" / "wandb" / "sent.json").read_text())
    assert files[0].name == f"run-{config['run_id']}.wandb"
