"""Several processes that train together, on localhost."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Net, blobs, fitted, noisy

from framework import Data, UserError
from framework.core.cluster import Member, member

HERE = Path(__file__).parent
ENDLESS = {"max_epochs": 10**6, "log_every": "1ep"}


class Cluster:
    """Starts workers, and kills what is left of them at the end."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, *, slurm: bool = False, **options: Any) -> None:
        self.stop()
        ports = free_ports(2)
        for index in (0, 1):
            env = os.environ | {"PYTHONPATH": f"{HERE}:{HERE.parent}"}
            if slurm:
                env |= {"SLURM_PROCID": str(index), "SLURM_STEP_NUM_TASKS": "2"}
                env |= {"SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_TASKS_PER_NODE": "2"}
            else:
                cluster = {"worker": [f"localhost:{port}" for port in ports]}
                task = {"type": "worker", "index": index}
                env["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
            command = [sys.executable, HERE / "worker_run.py", self.run_dir, json.dumps(options)]
            out = open(self.run_dir.parent / f"out-{index}.txt", "w")  # noqa: SIM115
            self.processes.append(
                subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, text=True)
            )

    def output(self, index: int) -> str:
        return (self.run_dir.parent / f"out-{index}.txt").read_text()

    def codes(self, seconds: float = 600.0) -> list[int]:
        return [process.wait(seconds) for process in self.processes]

    def results(self) -> list[Any]:
        lines = [self.output(i).partition("RESULT ")[2].splitlines()[0] for i in (0, 1)]
        return [json.loads(line) for line in lines]

    def wait_for_steps(self, count: int) -> None:
        """Wait until so many checkpoints have come and gone."""
        until, seen = time.monotonic() + 600, set()
        while len(seen) < count and time.monotonic() < until:
            seen |= {p.parent.name for p in self.run_dir.glob("checkpoints/step-*/manifest.json")}
            assert all(p.poll() is None for p in self.processes), self.output(0) + self.output(1)
            time.sleep(0.05)
        assert len(seen) >= count

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()
        self.processes.clear()


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "r")
    yield made
    made.stop()


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
    assert "continue from the last checkpoint" in cluster.output(0)
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
    assert "continuing from" in cluster.output(0)
    assert "continuing from" in cluster.output(1)

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


def test_tf_config_with_a_chief_counts_it_first() -> None:
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}

    def of(kind: str, index: int) -> Member:
        task = {"type": kind, "index": index}
        return member({"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})})

    assert of("chief", 0) == Member(0, ("a:1", "b:1", "c:1"), "TF_CONFIG")
    assert of("worker", 1) == Member(2, ("a:1", "b:1", "c:1"), "TF_CONFIG")
    assert [of("chief", 0).is_chief, of("worker", 0).is_chief] == [True, False]


def test_an_indexed_job_of_kubernetes_names_its_pods() -> None:
    environ = {"JOB_COMPLETION_INDEX": "1", "JOB_NAME": "cifar", "SERVICE_NAME": "cifar-svc"}
    assert member(environ | {"WORKERS": "2"}) == Member(
        1, ("cifar-0.cifar-svc:12345", "cifar-1.cifar-svc:12345"), "Kubernetes"
    )


@pytest.mark.parametrize(
    ("environ", "what", "fix"),
    [
        ({}, "nothing tells which worker this is", "TF_CONFIG"),
        ({"TF_CONFIG": "{"}, "TF_CONFIG cannot be read", '"cluster"'),
        ({"TF_CONFIG": "[]"}, "TF_CONFIG cannot be read", '"cluster"'),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a:1"]}, "task": {"type": "ps", "index": 0}}'},
            "tasks of the type 'ps'",
            "every process trains",
        ),
        (
            {"TF_CONFIG": '{"cluster": {"worker": ["a"]}, "task": {"type": "worker", "index": 1}}'},
            "has 1 workers, and this is number 1",
            "from 0",
        ),
        ({"SLURM_PROCID": "x", "SLURM_STEP_NUM_TASKS": "2"}, "SLURM_PROCID is 'x'", "number"),
        ({"JOB_COMPLETION_INDEX": "0"}, "needs the variable JOB_NAME", "WORKERS"),
    ],
)
def test_an_environment_that_tells_of_no_cluster(
    environ: dict[str, str], what: str, fix: str
) -> None:
    with pytest.raises(UserError) as error:
        member(environ)
    assert what in error.value.what
    assert fix in str(error.value.fix)


def test_a_cluster_is_joined_before_anything_else_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = {"worker": ["localhost:1", "localhost:2"]}
    config = {"cluster": cluster, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))
    data = Data(train=blobs(8))  # TensorFlow has begun long ago, in other tests
    fitted(Net(), data, max_steps=1)
    with pytest.raises(UserError, match="only before TensorFlow has begun"):
        fitted(Net(), data, strategy="multi_worker")
    with pytest.raises(UserError, match="takes all devices"):
        fitted(Net(), data, strategy="multi_worker", devices=2)
