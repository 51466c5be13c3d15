"""Workers in processes of their own, on localhost."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from places import ROOT, SUPPORT


class Cluster:
    """Starts workers, and kills what is left of them at the end."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, **options: Any) -> None:
        self.stop()
        ports = free_ports(2)
        for index in (0, 1):
            env = os.environ | {"PYTHONPATH": f"{SUPPORT}:{ROOT}"}
            cluster = {"worker": [f"localhost:{port}" for port in ports]}
            task = {"type": "worker", "index": index}
            env["TF_CONFIG"] = json.dumps({"cluster": cluster, "task": task})
            command = [sys.executable, SUPPORT / "worker_run.py", self.run_dir, json.dumps(options)]
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


def addresses(count: int) -> list[str]:
    return [f"localhost:{port}" for port in free_ports(count)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "r")
    yield made
    made.stop()
