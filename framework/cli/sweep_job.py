"""One job of a sweep, in whatever process Hydra's launcher runs it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from framework.cli.closed_stdio import lasting_streams
from framework.cli.console import show_error, show_log
from framework.cli.evaluated_config import read_config
from framework.cli.hydra_main import config_dir_of_job, job_of, overrides_of_job
from framework.cli.job import Job, Outcome
from framework.cli.one_run import run
from framework.cli.run_dir import flat, to_yaml
from framework.core.paths import working_directory
from framework.core.signals import put_off, queue_again
from framework.errors import UserError
from framework.search.options import SWEEPER, SearchOptions
from framework.sweep.child import is_child
from framework.sweep.claim import Claim, claimed, standing_of, standings
from framework.sweep.launcher import Value, value_in
from framework.sweep.numbered import numbered_output
from framework.sweep.record import JobEntry, SweepRecord
from framework.sweep.table import check_measured
from framework.text.escape import one_line

# Options that change nothing about what a finished job has left.
_OF_NO_MATTER = {
    "sweep_dir", "run_dir", "jobs", "objective", "direction", "search", "debug", "trust",
    "verbosity",
}  # fmt: skip

_here = False


@contextmanager
def in_this_process() -> Iterator[None]:
    """Tell jobs that run in this process from those that a launcher has sent elsewhere."""
    global _here
    _here = True
    try:
        yield
    finally:
        _here = False


def run_sweep_job(config: Any) -> Value:
    """Run the job that Hydra has composed; how it stands is left in the sweep directory.

    Hydra's launchers send this function to other processes by its name.

    Args:
        config: The job's configuration.

    Returns:
        The value of the sweep's objective, for Hydra's sweepers; NaN if the job has none. A list
        with several objectives.

    Raises:
        KeyboardInterrupt: The job was interrupted, and no other is to start.
    """
    from hydra.core.hydra_config import HydraConfig

    record = SweepRecord(Path(str(HydraConfig.get().sweep.dir)))
    elsewhere = not (_here or is_child())
    with nullcontext() if _here else lasting_streams():
        folder = str(working_directory())
        if folder not in map(os.path.abspath, sys.path):
            sys.path.insert(0, folder)
        show_log()
        entry = record.register(overrides_of_job())
        with numbered_output(entry.number) if elsewhere else nullcontext(), _alone():
            if not is_child() and config.verbosity:
                title = one_line(" ".join(entry.overrides))
                print(
                    f"{title}" if elsewhere else f"\n#{entry.number}  {title}".rstrip(), flush=True
                )
            with put_off():
                outcome = _run(record, entry, config)
    objectives = record.read().objectives
    if outcome.status == "interrupted":
        if elsewhere:
            queue_again(outcome.code)
        raise KeyboardInterrupt if outcome.code == 130 else SystemExit(outcome.code)
    return value_in(outcome.metrics if outcome.code == 0 else {}, objectives)


def _run(record: SweepRecord, entry: JobEntry, config: Any) -> Outcome:
    """Run the job, unless it is finished; leave on disk how it ended."""
    try:
        with claimed(record, entry) as claim:
            former = standing_of(record, entry, mine=True)
            try:
                job = job_of(config, config_dir_of_job(), record.path / entry.directory)
                if former.finished and is_unchanged(job):
                    if config.verbosity:
                        print("finished before: not run again", flush=True)
                    return Outcome(0, former.status, dict(former.metrics), former.run_dir)
                check_measured(standings(record), record.read().objectives)
                claim.begin()
                outcome = run(replace(job, callbacks=_callbacks(record, entry, config)))
            except UserError as error:
                show_error(error, debug=False)
                outcome = Outcome(2, "refused", error=str(error).splitlines()[0])
            except (KeyboardInterrupt, SystemExit) as leaving:
                code = leaving.code if isinstance(leaving, SystemExit) else 130
                outcome = Outcome(code if isinstance(code, int) else 1, "interrupted")
            except Exception as error:
                show_error(error, debug=False)
                outcome = Outcome(1, "failed", error=f"{type(error).__name__}: {error}")
            _note(claim, outcome)
            return outcome
    except UserError as error:  # another process runs it
        show_error(error, debug=False)
        return Outcome(2, "running", error=error.what)


def _callbacks(record: SweepRecord, entry: JobEntry, config: Any) -> Sequence[Any]:
    """Return the callbacks that the sweep adds to its jobs."""
    from hydra.core.hydra_config import HydraConfig

    if f"hydra/sweeper={HydraConfig.get().runtime.choices['hydra/sweeper']}" != SWEEPER:
        return ()
    from framework.search.pruning import pruning_of

    options: Any = OmegaConf.to_container(config.search, resolve=True)
    return pruning_of(SearchOptions.of(options), record.path, entry, record.read().objectives)


def _note(claim: Claim, outcome: Outcome) -> None:
    place = outcome.run_dir
    claim.end(outcome.status, outcome.code, outcome.metrics, place, outcome.error)


def is_unchanged(job: Job) -> bool:
    """Whether a run directory holds a run with the very configuration of a job."""
    place = job.place()
    if place is None or job.config["mode"] != "fit":
        return False
    now: Any = OmegaConf.to_container(OmegaConf.create(to_yaml(job.written)))
    return _compared(read_config(place)) == _compared(now)


def _compared(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in flat(config).items() if k.partition(".")[0] not in _OF_NO_MATTER}


@contextmanager
def _alone() -> Iterator[None]:
    """Let nothing of a job reach the next one in this process."""
    environ, folder, path = dict(os.environ), os.getcwd(), list(sys.path)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environ)
        os.chdir(folder)
        sys.path[:] = path
        gc.collect()
