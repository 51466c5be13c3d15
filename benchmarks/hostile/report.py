"""Every case in a process of its own, and one table."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.faults import import_all
from benchmarks.hostile.cases import Case, all_cases

COLUMNS = ["what is sent", "exit", "lines", "seconds", "memory", "as promised"]
ROOT = Path(__file__).parents[2]
# Seconds after which a command counts as hung; lines of one screen; memory over a healthy run's.
PATIENCE, SCREEN, MEMORY = 90.0, 25, 2.0


@dataclass(frozen=True)
class Answer:
    """What a command came to: exit code (None: it hung), what it said, seconds, peak bytes."""

    code: int | None
    text: str
    seconds: float
    memory: int


def measure(say: Callable[[str], None]) -> list[tuple[list[str], str]]:
    """Answer every case, and return rows of the table, each with what is wrong with it.

    Args:
        say: Called with a line for each case that is not answered as promised.
    """
    import_all()
    directory = Path(tempfile.mkdtemp(prefix="hostile-"))
    canary, precious = directory / "canary", directory / "precious"
    healthy, data = directory / "healthy", directory / "data"
    _make_data(data)
    options = ["task=mnist_sequential", f"data.dir={data}", "callbacks.checkpoint.keep_last=2"]
    trained = answer(
        [*options, "callbacks=checkpoint", f"run_dir={healthy}", "trainer.max_epochs=2"]
    )
    if trained.code:
        raise RuntimeError(trained.text)
    shutil.copytree(healthy, directory / "again")
    tested = answer([f"run_dir={directory / 'again'}", "mode=test"])
    whole = Case("healthy data", lambda path: None, False, ("trainer.max_steps=1",), of_data=True)
    shutil.copytree(data, directory / "whole")
    if (control := answer(_command(whole, directory / "whole", options))).code:
        raise RuntimeError(control.text)  # else every case of data would seem to be refused
    if tested.code:
        raise RuntimeError(tested.text)
    rows = []
    for case in all_cases(canary, precious):
        precious.write_text("mine")
        sent = directory / "sent"
        shutil.rmtree(sent, ignore_errors=True)
        shutil.copytree(data if case.of_data else healthy, sent)
        case.change(sent / "mnist.npz" if case.of_data else sent)
        found = answer(_command(case, sent, options))
        wrong = _wrong(case, found, max(trained.memory, tested.memory))
        if canary.exists() or precious.read_text() != "mine":
            wrong = "it was executed, or a file was written over"
            canary.rmdir() if canary.is_dir() else canary.unlink(missing_ok=True)
        share = f"{found.memory / max(trained.memory, tested.memory):.2f}"
        lines = str(len(found.text.splitlines()))
        cells = [case.what, str(found.code), lines, f"{found.seconds:.1f}", share]
        rows.append(([*cells, "yes" if not wrong else "NO"], wrong))
        if wrong:
            say(f"{case.what}: {wrong}\n{found.text[-1500:]}")
    shutil.rmtree(directory, ignore_errors=True)
    return rows


def answer(words: Sequence[str]) -> Answer:
    """Give a command in a fork of this process, which has imported TensorFlow already."""
    began = time.monotonic()
    with tempfile.TemporaryFile("w+") as out:
        child = os.fork()
        if not child:
            _run(words, out.fileno())
        code: int | None = None
        while True:
            done, status, usage = os.wait4(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                break
            if time.monotonic() - began > PATIENCE:
                os.kill(child, 9)
                usage = os.wait4(child, 0)[2]
                break
            time.sleep(0.02)
        out.seek(0)
        return Answer(code, out.read(), time.monotonic() - began, usage.ru_maxrss * 1024)


def _run(words: Sequence[str], out: int) -> None:
    code = 1
    try:
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(ROOT)
        from framework.cli import main

        quiet = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
        code = main([*words, *quiet, "trainer.engine=graph"])
        sys.stdout.flush()
    finally:
        os._exit(code)


def _command(case: Case, sent: Path, options: Sequence[str]) -> list[str]:
    if case.of_data:
        return ["task=mnist_sequential", f"data.dir={sent}", "loggers=[]", *case.words,
                "trainer.enable_checkpointing=false", f"run_dir={sent}/run"]  # fmt: skip
    if "mode=test" in case.words:
        return [f"run_dir={sent}", *case.words]
    return [*options, "callbacks=checkpoint", f"run_dir={sent}", *case.words]


def _wrong(case: Case, found: Answer, memory: int) -> str:
    if found.code is None:
        return "it hung"
    if found.code != (2 if case.refused else 0):
        return f"exit {found.code}"
    if "Traceback" in found.text or len(found.text.splitlines()) > SCREEN:
        return "more than one screen"
    if found.memory > MEMORY * memory:
        return f"{found.memory / 1e6:.0f} MB, a healthy run {memory / 1e6:.0f}"
    return ""


def _make_data(directory: Path) -> None:
    import numpy as np

    directory.mkdir()
    draw = np.random.default_rng(0)
    arrays = {}
    for split, rows in (("train", 320), ("test", 64)):
        arrays[f"x_{split}"] = draw.integers(0, 256, (rows, 28, 28), np.uint8)
        arrays[f"y_{split}"] = draw.integers(0, 10, rows, np.uint8)
    np.savez(directory / "mnist.npz", **arrays)
