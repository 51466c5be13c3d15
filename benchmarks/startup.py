"""How long the command line takes to answer, and to come to its first step."""

from __future__ import annotations

import os
import re
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


def parts() -> list[list[str]]:
    """Return where the time of the first step goes, as rows of a table: part, seconds.

    What a new process takes to import TensorFlow is the floor of it.
    """
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"}
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, env=env)
    imported = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "framework", *_FIRST_STEP, f"run_dir={directory}/run"]
        began = time.perf_counter()
        done = subprocess.run(
            [*command, "trainer.profiler=simple"],
            check=True,
            cwd=Path(__file__).parents[1],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        total = time.perf_counter() - began
    profile = dict(re.findall(r"^ +(\w+) +([\d.]+) +[\d.]+ %$", done.stdout, re.MULTILINE))
    fit = {name: float(spent) for name, spent in profile.items() if float(spent) >= 0.01}
    rest = total - imported - fit.pop("all", 0.0)
    found = {"import tensorflow": imported, **{f"fit: {name}": s for name, s in fit.items()}}
    found["the rest: Keras, Hydra, the test, the end of the process"] = rest
    return [[name, f"{spent:.2f}"] for name, spent in (found | {"all": total}).items()]


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
