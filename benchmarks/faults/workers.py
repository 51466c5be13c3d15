"""Two processes that train together, one or both of them killed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import time
from pathlib import Path

from benchmarks.faults import SLOW, import_all
from benchmarks.faults.compare import differences
from benchmarks.faults.runs import PATIENCE, Run, exit_code

_OPTIONS = ("trainer.strategy=multi_worker",)


def workers_killed(count: int, directory: Path) -> list[str]:
    """Kill workers at random moments, and start both again by the same commands.

    Args:
        count: How many runs.
        directory: Where to.

    Returns:
        What went wrong, a line for each run that did not end as the unbroken one.
    """
    import_all()
    directory.mkdir(exist_ok=True)
    whole = Run(directory / "whole", _OPTIONS)
    codes = _ended(_start(whole))
    if codes != [0, 0]:
        raise RuntimeError(f"{codes}\n" + Path(f"{whole.run_dir}.out").read_text())
    wrong = []
    for number in range(count):
        draw = random.Random(number)
        run = Run(directory / f"killed-{number}", SLOW + _OPTIONS)
        children = _start(run)
        until = time.monotonic() + PATIENCE
        while not run.run_dir.joinpath("checkpoints").exists() and time.monotonic() < until:
            time.sleep(0.005)
        time.sleep(draw.uniform(0.0, 2.5))
        victims = ([0], [1], [0, 1])[number % 3]
        for victim in victims:
            os.kill(children[victim], signal.SIGKILL)
        survived = _ended(children)
        again = _ended(_start(run))
        found = differences(whole.run_dir, run.run_dir) if again == [0, 0] else ["no end"]
        if found or -1 in survived:
            wrong.append(f"{victims} killed: {survived}, then {again}: {found}")
    return wrong


def _start(run: Run) -> list[int]:
    sockets = [socket.socket() for _ in range(2)]
    for each in sockets:
        each.bind(("localhost", 0))
    workers = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    children = []
    for index in range(2):
        task = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        children.append(run.fork(TF_CONFIG=json.dumps(task)))
    return children


def _ended(children: list[int]) -> list[int]:
    return [exit_code(child, PATIENCE) for child in children]
