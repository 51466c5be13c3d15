"""A call that lets no Python run is ended from outside."""

from __future__ import annotations

import subprocess
import sys
import time

from places import ROOT

# PyDLL keeps the interpreter's lock during the call, as TensorFlow does while it joins a cluster.
HELD = """
import ctypes, sys
from framework.core.deadline import ended_after
from framework.errors import TrainingFailed

with ended_after(float(sys.argv[1]), TrainingFailed("nobody answers", where="here", fix="Wait.")):
    ctypes.PyDLL(None).usleep(int(1e6 * float(sys.argv[2])))
print("left")
"""


def run(seconds: float, takes: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HELD, str(seconds), str(takes)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_a_call_that_takes_too_long_ends_the_process_with_the_error_alone() -> None:
    began = time.monotonic()
    ended = run(0.3, 50.0)
    assert time.monotonic() - began < 30
    assert ended.returncode == 1
    assert ended.stderr == "error: nobody answers\n  where: here\n  fix:   Wait.\n"
    assert ended.stdout == ""


def test_a_call_that_ends_in_time_shows_nothing() -> None:
    ended = run(30.0, 0.01)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "left\n", "")
