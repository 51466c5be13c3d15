"""`mode=batch_size_find`: the largest batch that fits, or the fastest, by trials in processes."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.cli.console import show_error
from framework.cli.job import Job, Outcome
from framework.cli.quoting import key_of
from framework.errors import UserError, choice
from framework.every import Every

BY = ("memory", "throughput")
_GROWS = 1.05  # a larger batch is worthwhile if it is faster by this factor
_FINE = 8  # bisect until the answer is known to an eighth
_NO_MEMORY = re.compile(
    r"MemoryError|bad_alloc|ResourceExhausted|RESOURCE_EXHAUSTED|[Oo]ut of memory|OOM|"
    r"[Cc]annot allocate memory|failed to map segment|[Uu]nable to allocate|"
    r"can't start new thread|Resource temporarily unavailable"
)
# What a trial does not need: it writes only its result, and trains only.
_TRIAL = (
    "mode=fit", "loggers=[]", "weights_only=false", "checkpoint=null", "sweep_dir=null",
    "trainer.max_epochs=null", "trainer.max_time=null", "trainer.enable_checkpointing=false",
    "trainer.enable_progress_bar=false", "trainer.enable_model_summary=false",
    "trainer.limit_val_batches=0", "trainer.limit_test_batches=0", "trainer.profiler=simple",
    "trainer.auto_lr=false", "trainer.fast_dev_run=false", "trainer.overfit_batches=0",
)  # fmt: skip

_log = logging.getLogger("framework")


@dataclass(frozen=True)
class Trial:
    """The outcome of training a few steps with a batch size.

    Attributes:
        size: The batch size.
        fits: Whether it trained.
        memory: The most bytes that the process held.
        rate: Examples per second.
        rows: Training rows, if known.
        problem: Why it did not train.
        code: The exit code of the process; negative for a signal.
    """

    size: int
    fits: bool
    memory: int = 0
    rate: float = 0.0
    rows: int | None = None
    problem: str = ""
    code: int = 0


def batch_size_find(job: Job) -> Outcome:
    """Try batch sizes, each in a process of its own, and print a table and the best one.

    It doubles the batch size until a trial fails or, with `by=throughput`, is not faster by a
    twentieth. With `by=memory` it then bisects to an eighth. A configured size that does not fit
    is halved first. This process loads no TensorFlow and outlives whatever happens to a trial.

    Args:
        job: The job. `config["batch_size_find"]` holds the options.

    Returns:
        The outcome: exit code 0, whatever the limit is.

    Raises:
        UserError: The options are invalid, the trial fails for another reason than memory, or not
            even one row fits.
    """
    options = _checked(job)
    with tempfile.TemporaryDirectory(prefix="batch_size_find-") as folder:
        size = job.config["data"]["batch_size"]
        trials = _search(_Trials(job, options, Path(folder)), options, size)
    _log.info("%s", _table(trials, options["by"]))
    fitting = [trial for trial in trials if trial.fits]
    if not fitting:
        raise UserError(
            "not even a batch of one row fits",
            where=f"data.batch_size=1: {trials[-1].problem}",
            fix="Give the process more memory, or make the model smaller.",
        )
    best = max(fitting, key=lambda t: t.rate if options["by"] == "throughput" else t.size)
    if best.size == max(trial.size for trial in trials) and options["by"] == "memory":
        _log.info("The limit was not reached: every batch up to this one fits.")
    _log.info("  data.batch_size=%d", best.size)
    return Outcome()


def batch_sizes(job: Job) -> Outcome:
    """Run `batch_size_find`, and report an error as `run` does."""
    try:
        return batch_size_find(job)
    except UserError as error:
        show_error(error, job.verbose)
        return Outcome(2, "refused", error=error.what)


def _search(trials: _Trials, options: Mapping[str, Any], size: int) -> list[Trial]:
    done: list[Trial] = []
    low, high = 0, None
    best = 0.0
    while high is None or low == 0:
        last = trials.run(size)
        done.append(last)
        if last.fits:
            slower = options["by"] == "throughput" and last.rate < _GROWS * best
            low, best = size, max(best, last.rate)
            most = min(n for n in (options["max"], last.rows, 2**40) if n is not None)
            if slower or high is not None or size >= most:
                break
            size = min(2 * size, most)
        elif size == 1:
            break
        else:
            high = size
            size = size if low else size // 2
    while (
        low and high is not None and options["by"] == "memory" and high - low > max(1, low // _FINE)
    ):
        last = trials.run((low + high) // 2)
        done.append(last)
        low, high = (last.size, high) if last.fits else (low, last.size)
    return done


class _Trials:
    """Runs trials of a job in a folder that is removed afterwards."""

    def __init__(self, job: Job, options: Mapping[str, Any], folder: Path) -> None:
        self._folder, self._steps = folder, int(options["steps"])
        self._seconds = Every(options["timeout"]).seconds
        fixed = {key_of(word) for word in _TRIAL} | {"mode", "run_dir", "data.batch_size"}
        own = [o for o in job.overrides if key_of(o) not in fixed and not _is_own(o)]
        flags = _config_dir(job.command)
        more = ["resume=auto", f"trainer.max_steps={self._steps}"]
        more.append(f"trainer.log_every={max(1, self._steps // 2)}st")
        given = [o for o in own if key_of(o) not in map(key_of, more)]
        self._words = [sys.executable, "-m", "framework", *flags, *given, *_TRIAL, *more]
        self._first = True

    def run(self, size: int) -> Trial:
        """Train a few steps with a batch size.

        Raises:
            UserError: The first trial fails for another reason than memory.
        """
        run_dir, text = self._folder / str(size), self._folder / f"{size}.txt"
        words = [*self._words, f"data.batch_size={size}", f"run_dir={run_dir}"]
        with text.open("wb") as output:
            code, memory, late = _run(words, output, self._seconds)
        said = text.read_text(encoding="utf-8", errors="replace")
        trial = _outcome(size, code, memory, said, run_dir, late=late)
        if self._first and not trial.fits and code > 0 and not _NO_MEMORY.search(said):
            raise UserError(
                "the first trial failed, and not for lack of memory",
                where=f"data.batch_size={size}",
                fix=f"Run it yourself, without mode=batch_size_find.\n{_end_of(said)}",
            )
        self._first = False
        shown = f"{memory / 1e6:,.0f} MB, {trial.rate:,.0f} examples/s" if trial.fits else "no: "
        _log.info("data.batch_size=%d: %s", size, shown + trial.problem)
        return trial


def _run(words: list[str], output: Any, seconds: float | None) -> tuple[int, int, bool]:
    """Run a process; return its exit code, its largest memory, and whether it took too long."""
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    child = subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT, env=env)
    # If the machine runs out of memory, the kernel should stop the trial and nothing else.
    with contextlib.suppress(OSError):
        Path(f"/proc/{child.pid}/oom_score_adj").write_text("1000")
    deadline, late = time.monotonic() + (seconds or 1e9), False
    try:
        while True:
            ended, status, usage = os.wait4(child.pid, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline and not late:
                late = True
                os.kill(child.pid, signal.SIGKILL)
            time.sleep(0.02)
    except BaseException:
        child.kill()
        child.wait()
        raise
    child.returncode = code = os.waitstatus_to_exitcode(status)  # so that nobody waits for it again
    unit = 1 if sys.platform == "darwin" else 1024
    return code, usage.ru_maxrss * unit, late


def _outcome(size: int, code: int, memory: int, said: str, run_dir: Path, *, late: bool) -> Trial:
    result: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        result = json.loads((run_dir / "result.json").read_text())
    if code == 0 and result:
        metrics = result.get("metrics") or {}
        rate = metrics.get("train/examples_per_second") or result.get("examples_per_second") or 0.0
        return Trial(size, True, memory, rate, (result.get("data") or {}).get("train_rows"))
    if late:
        problem = "it took too long"
    elif code < 0 or _NO_MEMORY.search(said):
        by = f" ({signal.Signals(-code).name})" if code < 0 else ""
        problem = f"out of memory{by}"
    else:
        problem = f"exit code {code}: {_end_of(said, 1)}"
    return Trial(size, False, memory, problem=problem, code=code)


def _end_of(said: str, lines: int = 12) -> str:
    return "\n".join([line for line in said.splitlines() if line.strip()][-lines:])


def _table(trials: list[Trial], by: str) -> str:
    from framework.text.tables import table

    rows = [
        (
            f"{t.size:,}",
            f"{t.memory / 1e6:,.0f} MB" if t.fits else t.problem,
            f"{t.rate:,.0f}" if t.fits else "",
        )
        for t in sorted(trials, key=lambda t: t.size)
    ]
    found = table(("batch size", "memory of the process", "examples/s"), rows, most=60)
    return f"trials, by {by}\n{found}"


def _checked(job: Job) -> dict[str, Any]:
    options, data = dict(job.config["batch_size_find"]), job.config["data"]
    if not job.command:
        raise UserError(
            "trials beside each other would share the memory",
            where="mode=batch_size_find",
            fix="Leave out -m, and find one batch size at a time.",
        )
    if not (isinstance(data, Mapping) and isinstance(data.get("batch_size"), int)):
        raise UserError(
            "there is no data.batch_size to vary",
            where="data",
            fix="Choose a data set, data=<name>; or take the batch size from `data` in the task.",
        )
    if options["by"] not in BY:
        fix = choice(str(options["by"]), BY)
        raise UserError(f"by is {options['by']!r}", where="batch_size_find.by", fix=fix)
    for name, least in (("max", data["batch_size"]), ("steps", 2)):
        value = options[name]
        if value is not None and value < least:
            raise UserError(
                f"{name} is {value}", where=f"batch_size_find.{name}", fix=f"Give {least} or more."
            )
    if Every(options["timeout"]).seconds is None:
        fix = "Give a time: 30s, 10min, 2h."
        raise UserError(
            f"timeout is {options['timeout']!r}", where="batch_size_find.timeout", fix=fix
        )
    return options


def _is_own(override: str) -> bool:
    return key_of(override).partition(".")[0] == "batch_size_find"


def _config_dir(command: Any) -> list[str]:
    """Return the flag of a command line that says where the project's configuration is."""
    words = list(command)
    for number, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if name in ("--config-dir", "-cd"):
            return [word] if equals else words[number : number + 2]
    return []
