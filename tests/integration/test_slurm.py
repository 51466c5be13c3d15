"""Jobs on a real SLURM of two nodes or more that share the tests' directory for temporary files."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Net, blobs, fitted, noisy
from places import ROOT, SUPPORT

from framework import Data
from framework.core.slurm import hostnames

TASKS = ("task-0", "task-1")
PATIENCE = 1500.0  # SLURM lets a job wait two minutes before it runs again


def said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def nodes() -> int:
    if not shutil.which("sinfo"):
        return 0
    try:
        return len(said_by("sinfo", "-h", "-N", "-t", "idle", "-o", "%N").split())
    except subprocess.SubprocessError:
        return 0


pytestmark = pytest.mark.skipif(
    nodes() < 2, reason="needs a SLURM with two idle nodes (sinfo); its daemons need root"
)

SCRIPT = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --mem=0 --requeue --open-mode=append
export PYTHONPATH={support}:{root}
options={options}
[ -n "$SLURM_RESTART_COUNT" ] || options={at_first}
srun --output={folder}/task-%t.txt --open-mode=append \\
  {python} {support}/worker_run.py {folder}/r "$options" && exit
# SLURM queues a job again by itself only if a node was lost. Once is enough for this.
[ "${{SLURM_RESTART_COUNT:-0}}" = 0 ] && [ {again} = yes ] && scontrol requeue "$SLURM_JOB_ID"
"""


class Job:
    """A batch job of two tasks that train together, one on each node."""

    def __init__(
        self, folder: Path, *sbatch: str, at_first: Any = None, again: bool = False, **options: Any
    ) -> None:
        folder.mkdir()
        self.folder = folder
        script = SCRIPT.format(
            support=SUPPORT,
            root=ROOT,
            python=sys.executable,
            folder=folder,
            options=f"'{json.dumps(options)}'",
            at_first=f"'{json.dumps(options | (at_first or {}))}'",
            again="yes" if again else "no",
        )
        (folder / "job.sh").write_text(script)
        place = f"--output={folder}/script.txt", f"--chdir={folder}"
        self.number = said_by("sbatch", "--parsable", *place, *sbatch, str(folder / "job.sh"))

    def now(self, name: str) -> str:
        said = said_by("scontrol", "show", "job", "-o", self.number.strip())
        return re.findall(rf"\b{name}=(\S+)", said)[0]

    def ended(self) -> str:
        """Wait until it is over; return how it has ended."""
        until = time.monotonic() + PATIENCE
        while (state := self.now("JobState")) in ("PENDING", "RUNNING", "COMPLETING", "REQUEUED"):
            assert time.monotonic() < until, self.output()
            time.sleep(1.0)
        return state

    def output(self, *of: str) -> str:
        """Return what a task has written, or the script and all tasks."""
        names = of or ("script", "task-0", "task-1")
        files = [self.folder / f"{name}.txt" for name in names]
        return "".join(file.read_text() for file in files if file.exists())

    def results(self) -> list[Any]:
        lines = [self.output(task).partition("RESULT ")[2].splitlines() for task in TASKS]
        assert all(lines), self.output()
        return [json.loads(first) for first, *_ in lines]


def test_hostlists_are_what_slurm_says() -> None:
    for text in ("n[1-3,07],m5", "n[08-11]", "a-b[001,3-4],c", "localhost"):
        assert hostnames(text) == said_by("scontrol", "show", "hostnames", text).split()


def test_a_lost_task_and_a_job_that_runs_again_equal_two_devices(tmp_path: Path) -> None:
    job = Job(tmp_path / "a", at_first={"lost_at": 20}, again=True, max_epochs=6)
    assert job.ended() == "COMPLETED", job.output()
    assert job.now("Restarts") == "1"
    output = job.output()
    assert "another worker is gone" in output
    assert "Traceback" not in output
    for task in TASKS:
        assert re.search("resuming from .* at step 18", job.output(task)), output

    (step, metrics, _, chief), (other_step, other_metrics, _, other) = job.results()
    assert step == other_step == 36
    assert metrics == other_metrics
    data = Data(train=blobs(43), val=blobs(13, seed=1), batch_size=8)
    whole = fitted(Net(noisy), data, max_epochs=6, devices=2)
    for weights in (chief, other):
        for left, right in zip(whole.task.model.get_weights(), weights, strict=True):
            np.testing.assert_allclose(left.ravel(), np.array(right, "f4"), atol=1e-5)
    assert metrics["val/loss"] == pytest.approx(whole.metrics["val/loss"], rel=1e-5)


def test_a_time_limit_shorter_than_the_run_changes_no_bit(tmp_path: Path) -> None:
    limit = "--time=1", "--signal=USR1@1"
    # Together the pauses take as long as the limit.
    job = Job(tmp_path / "short", *limit, pause=1.2, max_epochs=50)
    assert job.ended() == "COMPLETED", job.output()
    restarts, output = int(job.now("Restarts")), job.output()
    assert restarts >= 1
    assert output.count("is queued again") == restarts  # by one task alone
    assert job.output("task-0").count("resuming from") == restarts
    assert "Traceback" not in output

    unbroken = Job(tmp_path / "long", max_epochs=50)
    assert unbroken.ended() == "COMPLETED", unbroken.output()
    assert unbroken.now("Restarts") == "0"
    assert job.results() == unbroken.results()
