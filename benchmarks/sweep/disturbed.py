"""A sweep whose jobs and whose parent are killed, and which the same command ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.faults.compare import differences

PROJECT = Path(__file__).parent / "project"
ROOT = Path(__file__).parents[2]
# Seconds after which something that should have happened counts as never happening.
PATIENCE = 600.0


@dataclass(frozen=True)
class Ending:
    """How it ended.

    Attributes:
        code: The exit code of the last command.
        statuses: How many jobs ended how.
        different: The jobs whose result is not that of the undisturbed sweep, and in what.
        folders: How many run directories there are.
    """

    code: int
    statuses: dict[str, int]
    different: dict[str, list[str]]
    folders: int


def disturb(
    count: int,
    directory: Path,
    say: Callable[[str], None] = lambda line: None,
    *,
    parent_kills: int = 2,
    side_by_side: int = 2,
    pause: float = 0.3,
) -> Ending:
    """Run a sweep in which one job raises, one is killed, and the parent is killed, to its end.

    Args:
        count: How many jobs.
        directory: Where both sweeps go: this one, and an undisturbed one beside it.
        say: Called with a line now and then.
        parent_kills: How often the parent is killed.
        side_by_side: How many jobs run at a time.
        pause: Seconds that each epoch of a disturbed job waits, so that a kill hits it.

    Returns:
        What is left at the end.
    """
    words = [
        *("-m", "task=short", f"seed={','.join(map(str, range(count)))}"),
        *(f"task.raises={count - 2}", f"jobs={side_by_side}"),
    ]
    whole, sweep = directory / "whole", directory / "disturbed"
    # `pause` changes no result, and `task.pause` would be another configuration.
    undisturbed = start(words, whole, SHORT_PAUSE="0")
    undisturbed.wait(PATIENCE)
    say("sweep: the undisturbed one has ended")
    victim = False
    for kill in range(parent_kills):
        parent = start(words, sweep, SHORT_PAUSE=str(pause))
        if not victim:
            process = wait_for(lambda: working(sweep), parent)
            os.kill(process, signal.SIGKILL)
            victim = True
            say(f"sweep: job process {process} was killed")
        wanted = (kill + 1) * (count - 1) // (parent_kills + 1)
        wait_for(lambda wanted=wanted: ended(sweep) >= wanted, parent)  # type: ignore[misc]
        parent.kill()
        parent.wait()
        say(f"sweep: the parent was killed after {ended(sweep)} jobs had ended")
    last = start(words, sweep, SHORT_PAUSE="0")
    code = last.wait(PATIENCE)
    records = list(claims(sweep).values())
    statuses = {each["status"]: 0 for each in records}
    for each in records:
        statuses[each["status"]] += 1
    jobs = [path for path in sweep.iterdir() if path.is_dir() and path.name[0] != "."]
    good = [name for name, each in claims(sweep).items() if each["status"] == "completed"]
    different = {name: differences(whole / name, sweep / name) for name in good}
    return Ending(code, statuses, {k: v for k, v in different.items() if v}, len(jobs))


def start(words: Sequence[str], sweep: Path, **environ: str) -> subprocess.Popen[bytes]:
    """Start the command, with its output beside the sweep directory."""
    sweep.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{sweep}.out", "ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "framework", *words, f"sweep_dir={sweep}"],
            cwd=PROJECT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def claims(sweep: Path) -> dict[str, Any]:
    """Return what each job's file says, by directory; what is half-written is left out."""
    found = {}
    for path in sorted((sweep / ".sweep").glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text())
        except ValueError:
            continue
    return found


def working(sweep: Path) -> int:
    """Return the process of a job that has logged, but not ended; 0 if there is none."""
    for name, each in claims(sweep).items():
        log = sweep / name / "metrics.csv"
        if each["status"] == "running" and log.exists() and log.read_text().count("\n") > 2:
            return int(each["process"])
    return 0


def ended(sweep: Path) -> int:
    """Return how many jobs have ended by themselves."""
    return sum(each["status"] in ("completed", "failed") for each in claims(sweep).values())


def wait_for(condition: Callable[[], Any], process: subprocess.Popen[bytes]) -> Any:
    """Wait until something holds, and return it.

    Raises:
        TimeoutError: It never did, or the process has ended before.
    """
    until = time.monotonic() + PATIENCE
    while not (found := condition()):
        if time.monotonic() > until or process.poll() is not None:
            raise TimeoutError(f"the sweep ended with {process.poll()} before its time")
        time.sleep(0.02)
    return found
