"""A SLURM job whose time is over: its run saves, is queued again, and ends with the same bits."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
from cli_project import Run, project, result, run

__all__ = ["project", "run"]

WORDS = ("task=mine", "+task.fail=slow", "trainer.max_epochs=40", "trainer.engine=graph")


def announce(metrics: Path, number: int) -> threading.Thread:
    """Send a signal to this process as soon as a run has logged something."""

    def wait() -> None:
        until = time.monotonic() + 120
        while not (metrics.exists() and metrics.read_text().count("\n") > 2):
            if time.monotonic() > until:
                return
            time.sleep(0.005)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


@pytest.mark.parametrize("sweep", [False, True])
def test_a_run_is_queued_again_and_goes_on(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, sweep: bool
) -> None:
    (project / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {project}/asked\n')
    (project / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{project}:{os.environ['PATH']}")
    assert run(*WORDS, "seed=1", "run_dir=whole")[0] == 0

    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    words = ("-m", *WORDS, "seed=1,2", "sweep_dir=a") if sweep else (*WORDS, "seed=1", "run_dir=a")
    run_dir = project / "a" / "0_seed=1" if sweep else project / "a"
    thread = announce(run_dir / "metrics.csv", signal.SIGUSR1)
    code, out, err = run(*words)
    thread.join()
    assert code == 128 + signal.SIGUSR1, err
    assert (project / "asked").read_text() == "requeue 4711\n"
    assert "4711 is queued again" in out
    assert result(run_dir)["status"] == "interrupted"
    assert 0 < result(run_dir)["global_step"] < 400

    code, out, err = run(*words)
    assert code == 0, err
    assert "resuming from" in out
    assert (project / "asked").read_text() == "requeue 4711\n"
    saved = "checkpoints/step-00000400/arrays.npz"
    assert (run_dir / saved).read_bytes() == (project / "whole" / saved).read_bytes()
