"""Runs that are killed, and the lock on their directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from places import ROOT

from framework.core.lock import RunLock


def test_a_run_directory_belongs_to_one_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from framework.core.lock import RunLock\n"
        "with RunLock(Path(sys.argv[1])): print('held')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}

    def another() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    with RunLock(tmp_path):
        child = os.fork()
        if not child:  # a forked helper, such as a data loader, that outlives its parent's hold
            signal.pause()
        assert f"process {os.getpid()}" in another().stderr
    try:
        assert another().stdout == "held\n"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_killed_runs_end_with_the_unbroken_bits(tmp_path: Path) -> None:
    # In a process of its own: its forks must not inherit a TensorFlow that has begun.
    code = """
import shutil
from benchmarks import faults
from benchmarks.faults.damage import damaged
if __name__ == "__main__":
    directory = faults.make_directory()
    directory.chmod(0o755)
    runs = faults.killed(3, directory, print)
    print("codes", [run.code for run in runs], "kills", sum(run.kills for run in runs))
    print("seed", faults.another_seed(directory))
    print("signals", faults.signalled(2, directory))
    print("damage", *damaged(directory / "whole" / "checkpoints", directory / "aside", flips=20))
    shutil.rmtree(directory)
"""
    (tmp_path / "short.py").write_text(code)
    env = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, tmp_path / "short.py"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert "codes [0, 0, 0]" in done.stdout, done.stdout + done.stderr
    assert "kills 0" not in done.stdout
    assert "seed True" in done.stdout, done.stdout
    assert "signals []" in done.stdout, done.stdout
    assert "damage 112 []" in done.stdout, done.stdout
