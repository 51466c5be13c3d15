"""Several processes that train together, on localhost."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from cluster_runs import Cluster, cluster
from helpers import Net, blobs, fitted, noisy

from framework import Data, UserError

__all__ = ["cluster"]

ENDLESS = {"max_epochs": 10**6, "log_every": "1ep"}


def last_step(run_dir: Path) -> int:
    return max(int(p.name.removeprefix("step-")) for p in run_dir.glob("checkpoints/step-*"))


def test_two_workers_killed_stopped_and_continued_equal_two_devices(cluster: Cluster) -> None:
    # A worker is lost in the middle of a step, after three checkpoints.
    started = time.monotonic()
    cluster.start(lost_at=20, **ENDLESS)
    assert cluster.processes[1].wait(600) == -signal.SIGKILL, cluster.output(1)
    began = time.monotonic()
    # Within a minute, and more on a machine that takes long to start it.
    assert cluster.codes()[0] == 1
    assert time.monotonic() - began < 60 + (began - started)
    assert "another worker is gone" in cluster.output(0)
    assert "resume from the last checkpoint" in cluster.output(0)
    assert "Traceback" not in cluster.output(0)
    assert json.loads((cluster.run_dir / "result.json").read_text())["status"] == "failed"
    first = last_step(cluster.run_dir)
    assert first == 18

    # SIGTERM to the one that does not write ends both, at the same step.
    cluster.start(**ENDLESS)
    cluster.wait_for_steps(2)
    cluster.processes[1].send_signal(signal.SIGTERM)
    assert cluster.codes() == [143, 143]
    second = last_step(cluster.run_dir)
    assert second > first
    assert "resuming from" in cluster.output(0)
    assert "resuming from" in cluster.output(1)

    # Started once more they finish, as one process with two devices would have.
    epochs = -(-second // 6) + 1
    cluster.start(max_epochs=epochs)
    assert cluster.codes() == [0, 0], cluster.output(0) + cluster.output(1)
    (step, metrics, _, chief), (other_step, other_metrics, _, other) = cluster.results()
    assert step == other_step == 6 * epochs
    assert metrics == other_metrics
    data = Data(train=blobs(43), val=blobs(13, seed=1), batch_size=8)
    whole = fitted(Net(noisy), data, max_epochs=epochs, devices=2)
    for weights in (chief, other):
        for left, right in zip(whole.task.model.get_weights(), weights, strict=True):
            np.testing.assert_allclose(left.ravel(), np.array(right, "f4"), atol=1e-5)
    assert metrics["val/loss"] == pytest.approx(whole.metrics["val/loss"], rel=1e-5)
    assert metrics["train/loss"] == pytest.approx(whole.metrics["train/loss"], rel=1e-5)


def test_a_cluster_is_joined_before_anything_else_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = {"worker": ["localhost:1", "localhost:2"]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    data = Data(train=blobs(8))  # TensorFlow has begun long ago, in other tests
    fitted(Net(), data, max_steps=1)
    with pytest.raises(UserError, match="only before TensorFlow has started"):
        fitted(Net(), data, strategy="multi_worker")
    with pytest.raises(UserError, match="uses all devices"):
        fitted(Net(), data, strategy="multi_worker", devices=2)
