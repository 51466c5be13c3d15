"""The messages at the end of a run."""

from __future__ import annotations

import logging
import shlex
import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from framework.cli.job import Job, Outcome
from framework.cli.quoting import again

if TYPE_CHECKING:
    from framework.trainer import Trainer

_log = logging.getLogger("framework")


def say_end(job: Job, outcome: Outcome, trainer: Trainer | None) -> None:
    """Print the results that were not shown yet, where the files are, and how to go on."""
    swept, mode = job.run_dir is not None, job.config["mode"]
    bar = bool(job.config["trainer"]["enable_progress_bar"])
    if outcome.code == 0:
        _say_results(outcome, trainer, shown=bar, table=bar and mode == "fit" and not swept)
    if not outcome.run_dir:
        return
    _log.info("Run directory: %s", outcome.run_dir)
    if outcome.code == 1 and not job.verbose:
        _log.info("The traceback is in %s; -v shows it here.", outcome.run_dir / "log.txt")
    if outcome.code == 0 and not swept:
        if trainer is not None and mode == "fit":
            _say_how_to_continue(job, outcome.run_dir, trainer)
        if mode != "predict":
            _say_curves(outcome.run_dir)


def continuing(job: Job, run_dir: Path | None) -> str:
    """Return the message for an interrupted run: the command that resumes it, if there is one."""
    if run_dir is None or not _has_checkpoint(run_dir):
        return "Interrupted before there was anything to save."
    return f"To continue: {again(job.command, run_dir=run_dir)}"


def has_curves(run_dir: Path) -> bool:
    """Return whether a run has event files that TensorBoard can show."""
    return any(run_dir.glob("*/events.out.tfevents.*"))


def _say_results(outcome: Outcome, trainer: Trainer | None, *, shown: bool, table: bool) -> None:
    wanted = {k: v for k, v in outcome.metrics.items() if k.startswith("test/")} or outcome.metrics
    if wanted and not shown:
        _log.info("%s", "  ".join(f"{name} {value:.4f}" for name, value in wanted.items()))
    if wanted and table and trainer is not None:
        from framework.cli.closing import closing_table

        narrow = [shutil.get_terminal_size().columns] if sys.stdout.isatty() else []
        _log.info("%s", closing_table(trainer, *narrow))
    if outcome.metrics and trainer is not None and trainer.data_info.get("source") == "synthetic":
        _log.info("These numbers come from SYNTHETIC DATA.")


def _say_how_to_continue(job: Job, run_dir: Path, trainer: Trainer) -> None:
    """Print the command that trains a run further: the same one, with a later end."""
    config, later = trainer.config, {}
    if (
        trainer.status == "completed"
        and config.max_steps
        and not (trainer.progress.step < config.max_steps)
    ):
        later = {"trainer.max_steps": 2 * config.max_steps}
    elif trainer.status == "completed" and config.max_epochs:
        later = {"trainer.max_epochs": 2 * config.max_epochs}
    elif not trainer.stop_reason.startswith("max_time="):
        return  # a callback stopped it, and would do so again
    if _has_checkpoint(run_dir):
        _log.info("To continue: %s", again(job.command, run_dir=run_dir, **later))


def _say_curves(run_dir: Path) -> None:
    if not has_curves(run_dir):
        return
    _log.info("To see the curves: tensorboard --logdir %s", shlex.quote(str(run_dir)))
    others: list[Path] = []
    with suppress(OSError):  # it may be unreadable
        others = [path for path in run_dir.parent.iterdir() if path.name != run_dir.name]
    if any(map(has_curves, others)):
        _log.info("To compare: tensorboard --logdir %s", shlex.quote(str(run_dir.parent)))


def _has_checkpoint(run_dir: Path) -> bool:
    from framework.checkpoint.store import CheckpointStore

    return bool(CheckpointStore(run_dir / "checkpoints").steps())
