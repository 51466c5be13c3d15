"""Where the time went: parts that add up, and profiles that TensorBoard reads."""

from __future__ import annotations

import contextlib
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import Net, blobs, make_trainer

from framework import Data, UserError
from framework.loggers.csv import CSVLogger
from framework.profiler import PARTS, Profile


def test_a_part_inside_of_another_counts_for_itself_only() -> None:
    now = [0.0]

    def spend(seconds: float) -> None:
        now[0] += seconds

    profile = Profile(clock=lambda: now[0])
    spend(1)
    with profile("callbacks"):
        spend(2)
        with profile("saving"):
            spend(4)
        spend(8)
    with contextlib.suppress(ZeroDivisionError), profile("steps"):
        spend(16)
        raise ZeroDivisionError
    spend(32)
    expected = {"other": 33, "callbacks": 10, "saving": 4, "steps": 16}
    assert profile.seconds() == dict.fromkeys(PARTS, 0.0) | expected
    assert profile.share("steps") == 16 / 63
    assert [line.split()[:2] for line in profile.table().splitlines()[2:4]] == [
        ["other", "33.00"],
        ["steps", "16.00"],
    ]


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


def test_trace_writes_a_profile_for_tensorboard(tmp_path: Path) -> None:
    trainer = make_trainer(profiler="trace", run_dir=tmp_path / "run", enable_checkpointing=False)
    trainer.fit(Net(), Data(train=blobs(40), batch_size=8))
    assert list((tmp_path / "run/tensorboard/plugins/profile").glob("*/*.xplane.pb"))


def test_threads_are_set_before_the_first_tensor_or_refused() -> None:
    code = (
        "from framework import Trainer\nimport tensorflow as tf\nTrainer(threads=1)\n"
        "print(tf.config.threading.get_intra_op_parallelism_threads(),"
        " tf.config.threading.get_inter_op_parallelism_threads())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "1"]
    blobs(1)
    with pytest.raises(UserError, match="at work in this process"):
        make_trainer(threads=3)
