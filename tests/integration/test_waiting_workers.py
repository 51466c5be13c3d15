"""Workers in processes of their own, which wait for each other or differ."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_runs import Cluster, addresses, cluster
from places import ROOT, SUPPORT

__all__ = ["cluster"]

PATIENCE = 300.0


def test_workers_that_differ_end_before_the_first_step_and_say_so(cluster: Cluster) -> None:
    cluster.start(differ={"seed": 1, "clip_norm": 0.5}, max_epochs=1)
    assert cluster.codes(PATIENCE) == [2, 2], cluster.output(0) + cluster.output(1)
    for index in (0, 1):
        text = cluster.output(index)
        assert "the workers do not agree" in text
        assert "trainer.seed" in text
        assert "trainer.clip_norm" in text
        assert "Traceback" not in text
    assert not (cluster.run_dir / "checkpoints").exists()


def test_variables_of_other_shapes_are_named(cluster: Cluster) -> None:
    cluster.start(units=True, max_epochs=1)
    assert cluster.codes(PATIENCE) == [2, 2], cluster.output(0) + cluster.output(1)
    for index in (0, 1):
        assert "variable kernel" in cluster.output(index)
        assert "float32[4, 5]" in cluster.output(index), cluster.output(index)
        assert "Traceback" not in cluster.output(index)


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_a_worker_that_waits(tmp_path: Path, sent: int, code: int) -> None:
    places = addresses(2)
    config = {"cluster": {"worker": places}, "task": {"type": "worker", "index": 1}}
    env = os.environ | {"PYTHONPATH": f"{SUPPORT}:{ROOT}", "TF_CONFIG": json.dumps(config)}
    command = [sys.executable, SUPPORT / "worker_run.py", tmp_path / "r", "{}"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True) as process:  # fmt: skip
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if "is waiting for" in line:
                break
        assert f"worker 1 is waiting for worker 0 ({places[0]})" in seen
        process.send_signal(sent)
        assert process.wait(PATIENCE) == code
