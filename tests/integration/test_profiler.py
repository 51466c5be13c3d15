"""Where the time went: parts that add up, and profiles that TensorBoard reads."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import Net, blobs, make_trainer

from framework import Data, UserError
from framework.core.profile import PARTS
from framework.loggers.csv import CSVLogger


def test_simple_prints_a_table_that_sums_to_100_percent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "framework")
    options = {"run_dir": tmp_path / "run", "loggers": [CSVLogger()], "max_epochs": 2}
    trainer = make_trainer(profiler="simple", **options)
    trainer.fit(Net(), Data(train=blobs(400), val=blobs(80), batch_size=8))
    text = caplog.text[caplog.text.index("where the time went") :]
    shares = dict(re.findall(r"^ +(\w+) .* ([\d.]+) %$", text, re.MULTILINE))
    assert shares.pop("all") == "100.0"
    assert set(shares) == set(PARTS)
    assert sum(map(float, shares.values())) == pytest.approx(100.0, abs=0.5)
    seconds = trainer.profile.seconds()
    for part in ("data", "building", "compiling", "steps", "validation", "logging", "saving"):
        assert seconds[part] > 0, part
    header = (tmp_path / "run/metrics.csv").read_text().splitlines()[0]
    assert "perf/steps_per_second" in header
    assert trainer.metrics["perf/examples_per_second"] == pytest.approx(
        8 * trainer.metrics["perf/steps_per_second"]
    )
    assert 0 < trainer.metrics["perf/time_in_steps"] < 1


@pytest.mark.parametrize("known", [True, False])
def test_what_steps_wait_for_their_data_is_told(known: bool) -> None:
    def batches(epoch: int) -> Iterator[Any]:
        for start in range(0, 80, 8):
            time.sleep(0.05)
            yield x[start : start + 8], y[start : start + 8]

    x, y = blobs(80)
    limit = {"limit_train_batches": 10} if known else {}
    trainer = make_trainer(profiler="simple", max_epochs=2, **limit)
    trainer.fit(Net(), Data(train=batches))
    seconds = trainer.profile.seconds()
    assert seconds["data"] > 0.7  # 20 batches of 0.05 s, some of which were read ahead
    assert 0 < seconds["steps"] < seconds["data"]
    resident = make_trainer(profiler="simple", max_epochs=2)
    resident.fit(Net(), Data(train=(x, y), batch_size=8))
    assert resident.profile.seconds()["data"] < 0.2


def test_trace_writes_a_profile_for_tensorboard(tmp_path: Path) -> None:
    trainer = make_trainer(profiler="trace", run_dir=tmp_path / "run", enable_checkpointing=False)
    trainer.fit(Net(), Data(train=blobs(40), batch_size=8))
    assert list((tmp_path / "run/train/plugins/profile").glob("*/*.xplane.pb"))


def test_threads_are_set_before_the_first_tensor_or_refused() -> None:
    code = (
        "from framework import Trainer\nimport tensorflow as tf\nTrainer(threads=1)\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads(),"
        " tf.config.threading.get_inter_op_parallelism_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
    blobs(1)
    with pytest.raises(UserError, match="already started in this process"):
        make_trainer(threads=3)
