"""Execute one run: from a composed configuration to its outcome."""

from __future__ import annotations

import errno
import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.cli.batch_size_find import batch_sizes
from framework.cli.console import show_error, show_log
from framework.cli.did_you_mean import mode_fix
from framework.cli.env_references import FILE as REFERENCES
from framework.cli.env_references import check_references
from framework.cli.evaluated_config import nodes_of
from framework.cli.finding import auto_rate, lr_find, summary
from framework.cli.groups.root import EVALUATING, MODES
from framework.cli.hparams import hparams_of
from framework.cli.job import Job, Outcome
from framework.cli.opening import starting
from framework.cli.predictions import export_run, predict_data, predict_file
from framework.cli.report import continuing, say_end
from framework.cli.run_dir import RunDir, check_run, to_yaml
from framework.cli.trust import check_defined, vouched
from framework.config import TrainerConfig
from framework.core.cluster import member
from framework.core.paths import local_path
from framework.core.safe_files import NotAFile
from framework.core.statuses import PRUNED
from framework.errors import UserError
from framework.text.escape import hiding

if TYPE_CHECKING:
    from framework.checkpoint.store import CheckpointStore
    from framework.task import Task
    from framework.trainer import Trainer

# A full disk, an exceeded quota, a read-only file system, missing permissions.
_NO_WRITING = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
}  # fmt: skip
# A file or directory of the run cannot be created because something else has its name.
_IN_THE_WAY = {
    errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP,
}  # fmt: skip

_log = logging.getLogger("framework")


def run(job: Job) -> Outcome:
    """Run a job and report on the terminal. Only an interruption during startup raises.

    A run directory that this call created is removed again if the run was refused or ended before
    its first step.
    """
    with hiding(job.references.hidden(job.config)):
        return batch_sizes(job) if job.config["mode"] == "batch_size_find" else _run(job)


def _run(job: Job) -> Outcome:
    debug = job.verbose
    directory: RunDir | None = None
    trainer: Trainer | None = None
    outcome = Outcome()
    error: BaseException | None = None
    try:
        mode, options = _check(job.config)
        if mode != "summary" and _writes(job, options):
            directory = _open_directory(job, mode, options)
        checkpoint = _checkpoint(job, mode, directory)
        trainer, task = _assemble(job, directory)
        _run_mode(job, trainer, task, checkpoint, directory)
        used = trainer.stage and mode != "lr_find"
        outcome.status = trainer.status if used else "completed"
    except UserError as mistake:
        error, outcome.code, outcome.status = mistake, 2, "refused"
    except KeyboardInterrupt:
        outcome.code, outcome.status = 128 + signal.SIGINT, "interrupted"
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
        outcome.code, outcome.status = code, "interrupted" if code > 128 else "failed"
    except Exception as failure:
        full = _full_disk(failure, directory)
        error, outcome.code, outcome.status = full or failure, 2 if full else 1, "failed"
    steps = trainer.progress.step if trainer else 0
    if trainer:
        outcome.metrics = {**_earlier_metrics(trainer, directory), **trainer.metrics}
    if error:
        outcome.error = str(error).splitlines()[0] if str(error) else type(error).__name__
        _log.debug("The run ended with an error", exc_info=error)
        show_error(error, debug)
    keep = outcome.code in (0, 1) or (job.config["mode"] == "fit" and steps > 0)
    if directory and outcome.status == "failed" and outcome.code == 2:
        # Keep nothing of a new run that filled the disk, unless it has checkpoints.
        keep = not directory.new or bool(_store(directory.path).steps())
    if directory:
        directory.close(keep)
        outcome.run_dir = directory.path if directory.path.exists() else None
    say_end(job, outcome, trainer)
    if outcome.status == "interrupted" and job.command:
        _log.info("%s", continuing(job, outcome.run_dir))
    return outcome


def _check(config: Mapping[str, Any]) -> tuple[str, TrainerConfig]:
    verbosity = config["verbosity"]
    if verbosity not in range(3):
        fix = "Give 0 (only warnings and errors), 1, or 2 (debug messages too)."
        raise UserError(f"verbosity is {verbosity}", where="verbosity", fix=fix)
    show_log(verbosity)
    mode = str(config["mode"])
    if mode not in MODES:
        raise UserError(f"There is no mode {mode!r}", where="mode", fix=mode_fix(mode))
    return mode, TrainerConfig.of(dict(config["trainer"]))


def _writes(job: Job, options: TrainerConfig) -> bool:
    """Whether this process is the one in its cluster that writes."""
    if options.strategy != "multi_worker":
        return True
    if job.run_dir is not None:
        raise UserError(
            "-m runs its jobs in one process, which can join a cluster only once",
            where="trainer.strategy=multi_worker",
            fix="Start each job with its own command.",
        )
    if job.place() is None and not options.fast_dev_run:
        raise UserError(
            "several workers need one run directory",
            where="trainer.strategy=multi_worker",
            fix="Give run_dir=<path> on a file system that all of them see.",
        )
    chief = member().is_chief
    if not chief:
        show_log().setLevel(logging.WARNING)
    return chief


def _open_directory(job: Job, mode: str, options: TrainerConfig) -> RunDir | None:
    given = job.place()
    path = given or Path("runs") / job.task
    evaluating = mode != "fit"
    if options.fast_dev_run:
        if evaluating and given and path.exists():
            check_run(path, job.written, evaluating)
        return None
    if mode in EVALUATING and given and not job.config["checkpoint"] and not path.exists():
        raise UserError(
            f"There is no run to {mode}",
            where=str(path),
            fix="Give the run_dir= of a run, or checkpoint=<path>.",
        )
    if given and mode in ("validate", "test") and path.is_dir() and not os.access(path, os.W_OK):
        check_run(path, job.written, evaluating)
        _log.warning("cannot write to %s: the results are shown only here", path)
        return None
    unique = given is None
    directory = RunDir(path, job.written, job.overrides, evaluating=evaluating, unique=unique)
    try:
        text = check_references(directory.path, job.references, job.config)
        if text and not (evaluating and directory.continued):
            directory.write(REFERENCES, text)
    except BaseException:
        directory.close(keep=False)
        raise
    return directory


def _checkpoint(job: Job, mode: str, directory: RunDir | None) -> str | None:
    """Return the checkpoint to start from, unless it is the run's own last one."""
    given = job.config["checkpoint"]
    path = job.place()
    if given:
        return str(_find(str(given), path))
    if mode not in EVALUATING:
        return None
    store = _store(path) if path else None
    if store and store.steps():
        return str(store.favourite())
    if path and (directory.continued if directory else path.exists()):
        fix = "Train it first: mode=fit."
        raise UserError("The run has no checkpoint yet", where=str(path), fix=fix)
    return None


def _find(given: str, run_dir: Path | None) -> Path:
    store = _store(run_dir) if run_dir else None
    steps = store.steps() if store else []
    if given in ("last", "best") or given.isdigit():
        if not store or not steps:
            raise UserError(
                f"There is no run to take checkpoint {given!r} from",
                where=str(run_dir) if run_dir else f"checkpoint={given}, without run_dir=",
                fix="Give run_dir=<run>, or the path of a run or a step-… directory.",
            )
        return store.find(given)
    path = local_path(given, "checkpoint")
    try:
        return _store(path.parent).find(str(path))
    except UserError:
        known = f"Steps of the run: {', '.join(map(str, steps))}. " if steps else ""
        raise UserError(
            f"There is no checkpoint {given!r}",
            where=str(path.resolve() if path.exists() else Path.cwd()),
            fix=known + "Give last, best, a step, or the path of a run or a step-… directory.",
        ) from None


def _store(run_dir: Path) -> CheckpointStore:
    from framework.checkpoint.store import CheckpointStore

    return CheckpointStore(run_dir / "checkpoints")


def _full_disk(failure: BaseException, directory: RunDir | None) -> UserError | None:
    """Return the message for a disk that accepts no more data; None for any other failure."""
    if directory is None or not isinstance(failure, OSError):
        return None
    if failure.errno == errno.ENOENT and not directory.path.exists():
        return UserError(
            "the run directory no longer exists",
            where=str(directory.path),
            fix="Something deleted or moved it while the run was writing to it.",
        )
    if isinstance(failure, NotAFile):
        return failure.refused()
    place = str(failure.filename2 or failure.filename or "")
    if failure.errno in _IN_THE_WAY and place.startswith(str(directory.path)):
        return UserError(
            f"Cannot write there: {failure.strerror}",
            where=place,
            fix="Move the existing file away, or give another run_dir=.",
        )
    if failure.errno not in _NO_WRITING:
        return None
    steps = _store(directory.path).steps()
    fix = "Make room, or choose another place: run_dir=<path>, or with -m sweep_dir=<path>."
    if steps:
        fix = f"Make room and run the same command again: it resumes at step {steps[-1]:,}."
    where = str(failure.filename or directory.path)
    return UserError(f"Cannot write any more: {failure.strerror}", where=where, fix=fix)


def _assemble(job: Job, directory: RunDir | None) -> tuple[Trainer, Task]:
    with starting(job.task, str(job.config["mode"]), directory.path if directory else None):
        from framework.cli import assemble
        from framework.cli.logfile import RunLog
        from framework.trainer import Trainer
    config = job.config
    if config["mode"] != "fit" and (place := job.place()):
        check_defined(nodes_of(place, job.overrides), place, vouched(config))
    callbacks = assemble.build_named("callbacks", config.get("callbacks") or {})
    loggers = assemble.build_named("loggers", config.get("loggers") or {})
    # A worker that does not write reads the run directory of the one that does.
    read_only = job.place() if config["trainer"]["strategy"] == "multi_worker" else None
    trainer = Trainer(
        callbacks=[
            *callbacks.values(),
            *job.callbacks,
            assemble.ConfigText(to_yaml(job.written)),
            RunLog(),
        ],
        loggers=list(loggers.values()),
        run_dir=directory.path if directory else read_only,
        info={"task": job.task, "overrides": list(job.overrides)},
        hparams=hparams_of(job),
        full_config=job.written,
        **{**_shown(config), **auto_rate(config)},
    )
    # Build after the trainer, which must configure its devices before any tensor exists.
    return trainer, assemble.build_task(config, job.chosen())


def _shown(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the trainer's options; with `verbosity=0`, it shows nothing."""
    options = dict(config["trainer"])
    if not config["verbosity"]:
        options |= {"enable_progress_bar": False, "enable_model_summary": False}
    return options


def _run_mode(
    job: Job, trainer: Trainer, task: Task, checkpoint: str | None, directory: RunDir | None
) -> None:
    from framework.cli.assemble import blaming

    mode, weights_only = job.config["mode"], bool(job.config["weights_only"])
    where = directory.path if directory else job.place()
    if mode == "export" or (mode == "predict" and job.config["predict"]["file"]):
        use = export_run if mode == "export" else predict_file
        use(task, job.config[mode], checkpoint, trainer.config.precision, where)
        return
    # Build the data once, for both training and the test.
    with blaming(f"{type(task).__name__}.build_data failed"):
        data = task.build_data()
    if mode == "fit":
        trainer.fit(task, data, checkpoint=checkpoint, weights_only=weights_only)
        wanted = getattr(data, "test", None) is not None and trainer.config.limit_test_batches
        wanted = wanted and trainer.status != PRUNED
        if wanted and not (trainer.already_complete and _was_tested(directory)):
            trainer.test(task, data)
    elif mode == "lr_find":
        options = job.config["lr_find"]
        lr_find(trainer, task, data, options, checkpoint=checkpoint, weights_only=weights_only)
    elif mode == "summary":
        summary(trainer, task, data)
    elif mode == "validate":
        trainer.validate(task, data, checkpoint=checkpoint)
    elif mode == "test":
        trainer.test(task, data, checkpoint=checkpoint)
    else:
        run_dir = directory.path if directory else None
        predict_data(trainer, task, data, job.config["predict"], checkpoint, run_dir)


def _earlier_metrics(trainer: Trainer, directory: RunDir | None) -> dict[str, float]:
    """Return the numbers that a run which is already complete has in its result."""
    from framework.run.result import read_metrics

    if directory is None or not trainer.already_complete:
        return {}
    return read_metrics(directory.path / "result.json")


def _was_tested(directory: RunDir | None) -> bool:
    """Whether the result of a complete run already includes its test."""
    from framework.run.result import read_metrics

    metrics = read_metrics(directory.path / "result.json") if directory else {}
    return any(name.startswith("test/") for name in metrics)
