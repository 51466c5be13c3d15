"""The messages at the end of a run."""

from __future__ import annotations

import logging
import shlex
from pathlib import Path

from framework.cli.job import Job, Outcome
from framework.cli.quoting import again

_log = logging.getLogger("framework")


def continuing(job: Job, run_dir: Path | None) -> str:
    """Return the message for an interrupted run: the command that resumes it, if there is one."""
    from framework.checkpoint.store import CheckpointStore

    if run_dir is None or not CheckpointStore(run_dir / "checkpoints").steps():
        return "Interrupted before there was anything to save."
    return f"To continue: {again(job.command, run_dir=run_dir)}"


def has_curves(run_dir: Path) -> bool:
    """Return whether a run has event files that TensorBoard can show."""
    return any(run_dir.glob("*/events.out.tfevents.*"))


def say_end(
    outcome: Outcome, debug: bool, *, swept: bool, shown: bool, made_up: bool, curves: bool
) -> None:
    """Print where a run's files are and how to view them, unless that was printed before."""
    wanted = {k: v for k, v in outcome.metrics.items() if k.startswith("test/")} or outcome.metrics
    if wanted and outcome.code == 0 and not shown:
        _log.info("%s", "  ".join(f"{name} {value:.4f}" for name, value in wanted.items()))
    if made_up and outcome.metrics and outcome.code == 0:
        _log.info("These numbers come from SYNTHETIC DATA.")
    if not outcome.run_dir:
        return
    _log.info("Run directory: %s", outcome.run_dir)
    if outcome.code == 1 and not debug:
        _log.info("The traceback is in %s; -v shows it here.", outcome.run_dir / "log.txt")
    if outcome.code == 0 and curves and has_curves(outcome.run_dir) and not swept:
        _log.info("To see the curves: tensorboard --logdir %s", shlex.quote(str(outcome.run_dir)))
