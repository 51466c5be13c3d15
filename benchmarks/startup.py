"""How long the command line takes to answer, and to come to its first step."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

COLUMNS = ["command", "seconds", "of rounds", "bar"]
HELP_BAR = 1.5  # seconds
_TASK = "task=cifar100_subclass"
_FIRST_STEP = [
    _TASK,
    "data.source=synthetic",
    "trainer.max_steps=1",
    "trainer.limit_test_batches=1",
    "trainer.enable_checkpointing=false",
]

Result = dict[str, list[float]]


def measure(*, rounds: int = 5, say: Callable[[str], None] = lambda line: None) -> Result:
    """Time the commands in turn, each in a process of its own.

    Raises:
        subprocess.CalledProcessError: A command failed.
    """
    commands = {
        "--help": ["--help"],
        f"--cfg job {_TASK}": ["--cfg", "job", _TASK],
        "one training step and one test batch": _FIRST_STEP,
    }
    seconds: Result = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as directory:
        for number in range(rounds):
            for name, arguments in commands.items():
                extra = [f"run_dir={directory}/{number}"] if arguments is _FIRST_STEP else []
                seconds[name].append(_time([*arguments, *extra]))
            now = ", ".join(f"{name} {each[-1]:.2f} s" for name, each in seconds.items())
            say(f"startup: round {number + 1} of {rounds}: {now}")
    return seconds


def rows(seconds: Result) -> list[list[str]]:
    """Return the table's rows."""
    return [
        [
            name,
            f"{statistics.median(each):.2f}",
            f"{min(each):.2f} to {max(each):.2f}",
            f"{HELP_BAR:.2f}" if name.startswith("--") else "",
        ]
        for name, each in seconds.items()
    ]


def missed(seconds: Result) -> list[str]:
    """Return a line for every bar that is missed."""
    return [
        f"startup: {name} takes {statistics.median(each):.2f} s, wanted {HELP_BAR:.2f}"
        for name, each in seconds.items()
        if name.startswith("--") and statistics.median(each) > HELP_BAR
    ]


def _time(arguments: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "framework", *arguments],
        check=True,
        cwd=Path(__file__).parents[1],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    return time.perf_counter() - began
