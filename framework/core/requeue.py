"""Go on after the end of a Slurm job: have it queued again."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping

_log = logging.getLogger("framework")


def announces_end(environ: Mapping[str, str] = os.environ) -> list[signal.Signals]:
    """Return the signals by which Slurm announces that the job of this process will end.

    `#SBATCH --signal=USR1@120` asks for one, 120 seconds before; submitit uses USR2. Outside a job
    of a scheduler there are none, since these signals may mean anything there.
    """
    if "SLURM_JOB_ID" not in environ and "SUBMITIT_EXECUTOR" not in environ:
        return []
    return [number for number in signal.Signals if number.name in ("SIGUSR1", "SIGUSR2")]


def requeue(received: int, environ: Mapping[str, str] = os.environ) -> bool:
    """Have this process's Slurm job queued again, after the run has been saved.

    In a job of submitit, its own handler does that; in any other, `scontrol requeue`.

    Args:
        received: The signal that announced the end.
        environ: The environment; replaced in tests.

    Returns:
        Whether the job will go on by itself.
    """
    if "SUBMITIT_EXECUTOR" in environ:
        signal.raise_signal(received)  # its handler queues the job and ends this process
        return True
    job, task = environ.get("SLURM_ARRAY_JOB_ID"), environ.get("SLURM_ARRAY_TASK_ID")
    name = f"{job}_{task}" if job and task else environ.get("SLURM_JOB_ID", "")
    if not name or not shutil.which("scontrol"):
        return False
    done = subprocess.run(["scontrol", "requeue", name], capture_output=True, text=True)
    if done.returncode:
        _log.warning("scontrol requeue %s failed: %s", name, done.stderr.strip())
        return False
    _log.info("Slurm job %s is queued again; it resumes from the checkpoint.", name)
    return True
