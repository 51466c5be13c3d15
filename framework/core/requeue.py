"""Ask SLURM to queue the job again that is about to reach its time limit.

At the limit SLURM itself queues nothing again. It can only be asked to send a signal before
(`--signal=USR1@120`); `sbatch --requeue` and `--no-requeue` say whether a job may be queued again.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from typing import Any

_log = logging.getLogger("framework")
_SECONDS = 60.0


def requeue(environ: Mapping[str, str] | None = None) -> None:
    """Queue this process's job again, if it is a job of SLURM.

    Only the first task of a step asks. If SLURM refuses, the log says so. SLURM then
    ends the job's processes, which must have saved by now.
    """
    environ = os.environ if environ is None else environ
    job = environ.get("SLURM_JOB_ID")
    if not job or environ.get("SLURM_PROCID", "0") != "0":
        return
    if environ.get("SLURM_ARRAY_JOB_ID"):
        # The id of one job of an array is that of the array as well, and would requeue all of it.
        job = f"{environ['SLURM_ARRAY_JOB_ID']}_{environ['SLURM_ARRAY_TASK_ID']}"
    _ask(job)


def _ask(job: str) -> None:
    # SLURM sends SIGTERM before scontrol has ended, to both.
    former = _ignore_sigterm()
    try:
        subprocess.run(
            ["scontrol", "requeue", job],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.CalledProcessError as error:
        why = error.stderr.strip() or f"scontrol ended with code {error.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        why = str(error)
    else:
        _log.info("SLURM job %s is queued again; the run continues in it", job)
        return  # SIGTERM stays ignored: this process is ending
    if former is not None:
        signal.signal(signal.SIGTERM, former)
    _log.warning("SLURM did not queue job %s again (%s); submit it again to continue", job, why)


def _ignore_sigterm() -> Any:
    if threading.current_thread() is threading.main_thread():
        return signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return None
