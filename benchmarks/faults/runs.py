"""Runs of the command line that are killed, and started again by the same command."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROJECT = Path(__file__).parent / "project"
# Seconds after which a run that should have ended counts as hung.
PATIENCE = 180.0


@dataclass
class Run:
    """One run directory, and what befell it.

    Args:
        run_dir: Where it is.
        options: Overrides of the command line.
        task: Its name in the project.
        project: The working directory.

    Attributes:
        saves: Kills that hit while a checkpoint was half-written.
        validations: Kills that hit while a validation ran.
        kills: All of them.
    """

    run_dir: Path
    options: tuple[str, ...] = ()
    task: str = "everything"
    project: Path = PROJECT
    saves: int = 0
    validations: int = 0
    kills: int = 0
    code: int | None = field(default=None)

    @property
    def arguments(self) -> list[str]:
        """The command line, the same every time."""
        return [f"task={self.task}", f"run_dir={self.run_dir}", *self.options]

    @property
    def half_written(self) -> list[Path]:
        """Checkpoints that are being written, or were when the process died."""
        return list(self.run_dir.glob("checkpoints/.step-*"))

    @property
    def logged(self) -> int:
        """Rows that it has logged: 0 until it has made steps."""
        path = self.run_dir / "metrics.csv"
        return max(len(path.read_text().splitlines()) - 1, 0) if path.exists() else 0

    @property
    def validating(self) -> Path:
        """A file that is there while the run validates."""
        return Path(f"{self.run_dir}.validating")

    def fork(self, **environ: str) -> int:
        """Start the command in a fork of this process, which has imported TensorFlow already.

        Args:
            **environ: Further variables of its environment.
        """
        self.validating.unlink(missing_ok=True)
        child = os.fork()
        if child:
            return child
        code = 1
        try:
            with open(f"{self.run_dir}.out", "a") as out:
                os.dup2(out.fileno(), 1)
                os.dup2(out.fileno(), 2)
            os.environ.update(environ)
            os.chdir(self.project)
            sys.path.insert(0, str(self.project))
            from framework.cli import main

            code = main(self.arguments)
        finally:
            os._exit(code)

    def start(self) -> subprocess.Popen[str]:
        """Start the command as a process of its own, as from a shell."""
        command = [sys.executable, "-m", "framework", *self.arguments]
        root = str(Path(__file__).parents[2])
        env = os.environ | {"PYTHONPATH": root, "TF_CPP_MIN_LOG_LEVEL": "3"}
        return subprocess.Popen(
            command,
            cwd=PROJECT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self) -> None:
        """Give the command again, and wait for its end."""
        self.code = exit_code(self.fork(), PATIENCE)

    def kill_once(self, moment: str, draw: random.Random, longest: float) -> None:
        """Give the command, and kill it by SIGKILL.

        Args:
            moment: `save`, `validation`, or `any`.
            draw: Chance.
            longest: Seconds that the whole command takes.
        """
        child = self.fork()
        if moment == "any":
            time.sleep(draw.uniform(0.0, longest))
        else:
            for _ in range(draw.randint(1, 6)):
                if moment == "save":
                    _wait(child, lambda: bool(self.half_written))
                    time.sleep(draw.uniform(0.0, 0.004))
                else:
                    _wait(child, self.validating.exists)
                    time.sleep(draw.uniform(0.0, 0.015))
        ended = os.waitpid(child, os.WNOHANG)[0] != 0
        if ended:
            return
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.kills += 1
        self.saves += bool(self.half_written)
        self.validations += self.validating.exists()


def exit_code(child: int, seconds: float) -> int:
    """Wait for a child, and return its exit code; that of one that hangs is -1."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -1


def _wait(child: int, condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < until:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return
        time.sleep(0.0003)
