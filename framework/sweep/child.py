"""One job in a process of its own."""

from __future__ import annotations

import ctypes
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

PRELOAD = (
    "tensorflow", "keras", "framework.trainer", "framework.cli.assemble", "framework.cli.logfile",
    "framework.cli.sweep_job", "framework.sweep.child",
)  # fmt: skip
"""What the fork server imports, once for all jobs. None of it starts TensorFlow."""

_inside = False
_PR_SET_PDEATHSIG = 1  # from <sys/prctl.h>


@dataclass(frozen=True)
class Surroundings:
    """What a job takes over from the process that starts it.

    Attributes:
        folder: The working directory.
        environ: The environment.
        words: The command line.
        cores: The cores it may use; empty: all.
    """

    folder: str
    environ: Mapping[str, str]
    words: tuple[str, ...]
    cores: tuple[int, ...] = ()

    @classmethod
    def here(cls, slot: int, slots: int) -> Surroundings:
        """Return those of this process, with one of so many shares of its cores and GPUs.

        The number of TensorFlow's threads stays that of a run by itself, as the last bits of a
        convolution depend on it; the operating system puts them on the share of the cores.
        """
        environ = dict(os.environ)
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        gpus = gpus_here(environ)
        if gpus and slots > 1:
            environ["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
        for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
            environ.setdefault(name, str(len(cores) or os.cpu_count() or 1))
        return cls(os.getcwd(), environ, tuple(sys.argv), share_of(cores, slot, slots))

    def enter(self) -> None:
        """Make this process like that."""
        os.environ.clear()
        os.environ.update(self.environ)
        os.chdir(self.folder)
        sys.argv[:] = self.words
        if self.folder not in map(os.path.abspath, sys.path):
            sys.path.insert(0, self.folder)
        if self.cores:
            with suppress(OSError):
                os.sched_setaffinity(0, self.cores)


def share_of(cores: list[int], slot: int, slots: int) -> tuple[int, ...]:
    """Return the cores of one of several jobs; empty if there are fewer cores than jobs.

    Example:
        >>> share_of([0, 1, 2, 3, 4], 0, 2), share_of([0, 1, 2, 3, 4], 1, 2), share_of([0], 0, 2)
        ((0, 1), (2, 3, 4), ())
    """
    if slots < 2 or len(cores) < slots:
        return ()
    return tuple(cores[len(cores) * slot // slots : len(cores) * (slot + 1) // slots])


def gpus_here(environ: Mapping[str, str]) -> list[str]:
    """Return the GPUs that this process may use, as CUDA names them, without asking TensorFlow."""
    given = environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name.strip() for name in given.split(",") if name.strip() not in ("", "-1")]
    files = Path("/dev").glob("nvidia*") if sys.platform == "linux" else ()
    return sorted((m[1] for f in files if (m := re.fullmatch(r"nvidia(\d+)", f.name))), key=int)


def run_child(
    surroundings: Surroundings,
    out: Connection,
    err: Connection,
    work: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    """Do the work of a child process: its output goes to two pipes, and it ends with its parent."""
    global _inside
    _inside = True
    end_with_parent()
    with suppress(OSError):
        os.setpgid(0, 0)  # a Ctrl-C on the terminal goes to the parent, which passes it on once
    for pipe, number in ((out, 1), (err, 2)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
    for number, name in ((1, "stdout"), (2, "stderr")):
        raw = os.fdopen(number, "wb", 0, closefd=False)
        setattr(sys, name, io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _leave)
    surroundings.enter()
    try:
        work(*arguments)
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def is_child() -> bool:
    """Whether this process runs one job, and its parent shows what it prints."""
    return _inside


def end_with_parent() -> None:
    """Have the operating system send SIGTERM to this process when its parent ends, however."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == 1:  # it ended before
        raise SystemExit(128 + signal.SIGTERM)


def _leave(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
