"""A sweep from the command line, and each of its jobs."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from framework.cli.arguments import Arguments
from framework.cli.console import show_error
from framework.cli.hydra_main import composed_for_all, with_hydra
from framework.cli.launchers import check_launcher
from framework.cli.quoting import again, key_of, quoted, value_of
from framework.cli.report import has_curves
from framework.cli.run_dir import make_dirs, make_unique, remove_empty, writing
from framework.cli.searching import STUDY, check_search, search_options
from framework.cli.sweep_job import in_this_process, run_sweep_job
from framework.core.direction import by_name
from framework.core.paths import local_path
from framework.core.statuses import PRUNED
from framework.errors import UserError, choice
from framework.search.options import SWEEPER, SearchOptions
from framework.sweep import launcher
from framework.sweep.claim import Standing, standings
from framework.sweep.plan import fixed_overrides, planned_jobs
from framework.sweep.record import FILE, FOLDER, Content, JobEntry, Objective, SweepRecord
from framework.sweep.table import best_of, check_measured, print_table, values
from framework.text.escape import one_line, plain

_NOBODY = JobEntry(0, "", "", ())
_HYDRA_RECORD = "multirun.yaml"  # Hydra's basic sweeper writes it; sweep.json says more


@dataclass(frozen=True)
class _Wanted:
    """What a command line and the project's files ask for."""

    sweep_dir: str | None
    jobs: int
    objectives: tuple[Objective, ...]
    planned: Sequence[tuple[str, ...]]
    search: SearchOptions | None
    given: Sequence[str]
    shows: bool


def sweep(arguments: Arguments) -> int:
    """Run a sweep: every job that is not finished, then the table of all.

    What came of each job is read from the disk, whoever ran it.

    Args:
        arguments: The command line.

    Returns:
        The exit code: the first of this command's jobs that is not 0.
    """
    _check_run_dir(arguments.overrides)
    launcher.register()
    check_launcher(arguments)
    wanted = _wanted(arguments)
    given = wanted.sweep_dir
    parent = local_path(given or "runs", "sweep_dir")
    with writing(parent):
        made = make_dirs(parent) if given else make_unique(parent, "sweep-")
    record = SweepRecord(parent if given else made[-1])
    before: Content | None = None
    stood: list[Standing] = []
    try:
        with writing(record.path), record.running(together=wanted.search is not None):
            before = record.read()
            stood = standings(record)
            fixed = fixed_overrides(arguments.overrides)
            if wanted.search:
                check_search(record.path, wanted.search, wanted.given, wanted.objectives)
            record.begin(fixed, wanted.planned, wanted.objectives)
            return _run(arguments, wanted, record, stood)
    except UserError:
        if before is not None and not _any_started(record, stood):
            record.restore(before)
        raise
    finally:
        _tidy(record, made, new=before == Content())


def _wanted(arguments: Arguments) -> _Wanted:
    config = composed_for_all(arguments)
    typed = {key_of(o): value_of(o) for o in arguments.overrides if "=" in o}

    def option(name: str) -> str | None:
        value = typed.get(name, config.get(name))
        return None if value in (None, "null", "") else str(value)

    hydra_dir = str(config.hydra.sweep.dir)
    place = option("sweep_dir") or (hydra_dir if hydra_dir != "." else None)
    jobs = option("jobs") or "1"
    if not jobs.isdigit() or int(jobs) < 1:
        raise UserError(f"jobs is {jobs}", where=f"jobs={jobs}", fix="Give a number of 1 or more.")
    given = _given(arguments, config)
    return _Wanted(
        place,
        int(jobs),
        _objectives(_listed(option("objective")), _listed(option("direction")) or ["auto"]),
        _planned(given) if given and not config.search else [],
        search_options(config, arguments.overrides),
        given,
        option("verbosity") != "0",
    )


def _listed(text: str | None) -> list[str]:
    """Return the words of `[a,b]`, or the only one."""
    words = (text or "").strip("[]").split(",")
    return [word.strip(" '\"") for word in words if word.strip()]


def _objectives(metrics: Sequence[str], directions: Sequence[str]) -> tuple[Objective, ...]:
    if len(directions) not in (1, len(metrics)) and metrics:
        raise UserError(
            f"There are {len(metrics)} objectives and {len(directions)} directions",
            where=f"direction=[{','.join(directions)}]",
            fix="Give as many directions as objectives, or one for all.",
        )
    if len(directions) == 1:
        directions = [*directions] * len(metrics)
    for direction in directions:
        if direction not in ("auto", "min", "max"):
            fix = choice(direction, ("min", "max", "auto"))
            where = f"direction={direction}"
            raise UserError(f"There is no direction {direction!r}", where=where, fix=fix)
    return tuple(_objective(*pair) for pair in zip(metrics, directions, strict=True))


def _objective(metric: str, direction: str) -> Objective:
    found = by_name(metric) if direction == "auto" else direction
    if found is None:
        raise UserError(
            f"Whether a high {metric!r} is good cannot be told from its name",
            where=f"objective={metric}",
            fix="Add direction=max or direction=min.",
        )
    return Objective(metric, found)


def _given(arguments: Arguments, config: Any) -> list[str]:
    """Return everything that is varied or fixed; nothing if a sweeper chooses as it goes."""
    from omegaconf import OmegaConf

    sweeper: Any = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    if not str(sweeper.get("_target_")).endswith(".BasicSweeper"):
        return []
    params = sweeper.get("params") or {}
    listed = [f"{k}={str(v).replace(chr(92) * 7, '')}" for k, v in params.items()]
    return [*listed, *arguments.overrides]


def _planned(given: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the jobs that are known before the sweep."""
    with suppress(Exception):  # Hydra will refuse it.
        return planned_jobs(given)
    return []


def _run(
    arguments: Arguments, wanted: _Wanted, record: SweepRecord, stood: Sequence[Standing]
) -> int:
    """Let Hydra run the jobs; return the exit code. `stood` is how they stood before."""
    hydra = [o for o in arguments.overrides if key_of(o) not in ("hydra.sweep.dir", "hydra.mode")]
    hydra.append(f"hydra.sweep.dir={quoted(record.path)}")
    if arguments.multirun:  # else a file says so
        hydra.append("hydra.mode=MULTIRUN")
    if wanted.search:
        hydra.append(SWEEPER)
    if wanted.jobs > 1:
        hydra += [f"hydra/launcher={launcher.NAME}", f"hydra.launcher.jobs={wanted.jobs}"]
    words = Arguments(
        flags=arguments.flags,
        overrides=hydra,
        words=arguments.words,
        config_dir=arguments.config_dir,
    )
    ended = 0
    broken: Exception | None = None
    try:
        with in_this_process():
            with_hydra(words, run_sweep_job)
    except KeyboardInterrupt:
        ended = 130
    except SystemExit as leaving:
        ended = leaving.code if isinstance(leaving.code, int) else 1
    except Exception as error:
        # Before a job has started, the configuration is at fault; later, what ran the jobs.
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        if not _any_started(record, stood):
            raise _before_a_job(arguments, error, cause) from error
        broken = cause
    return _conclude(arguments, wanted, record, ended, broken)


def _conclude(
    arguments: Arguments,
    wanted: _Wanted,
    record: SweepRecord,
    ended: int,
    broken: Exception | None,
) -> int:
    found = standings(record)
    if wanted.shows:
        _show(arguments, wanted, record, found, ended)
    if broken is not None:
        show_error(broken, debug=False)
    check_measured(found, wanted.objectives)
    mine = _asked_for(wanted, record, found)
    if wanted.search and any(s.finished and s.status != PRUNED for s in mine):
        return ended or int(broken is not None)  # a trial that fails is a result
    code = next((s.code for s in mine if s.code), ended)
    return code or int(not all(s.finished for s in mine))


def _asked_for(
    wanted: _Wanted, record: SweepRecord, found: Sequence[Standing]
) -> Sequence[Standing]:
    """Return the jobs of this command; to a search, all belong, whoever asked for them."""
    asked = record.read().round
    return [s for s in found if wanted.search or s.job.round == asked]


def _show(
    arguments: Arguments,
    wanted: _Wanted,
    record: SweepRecord,
    found: Sequence[Standing],
    ended: int,
) -> None:
    """Print the table of a sweep, where it is, and the command that continues it."""
    print_table(found, record.path, wanted.objectives)
    best = best_of(found, wanted.objectives)
    title = "Best" if len(wanted.objectives) == 1 else "Pareto front"
    for each in best:
        varied = one_line(" ".join(each.job.overrides))
        print(f"{title}: #{each.job.number}  {varied}  {values(each, wanted.objectives)}")
    shown = shlex.quote(one_line(record.path))
    print(f"Sweep directory: {shown}")
    if any(s.run_dir and has_curves(s.run_dir) for s in found):
        print(f"To see the curves: tensorboard --logdir {shown}")
    mine = _asked_for(wanted, record, found)
    if ended or any(s.status in ("interrupted", "killed", "not run") for s in mine):
        print(plain(f"To continue: {again(arguments.words, sweep_dir=record.path)}"))


def _before_a_job(arguments: Arguments, error: Exception, cause: Exception) -> Exception:
    """Return the error to show when no job has started: of the configuration, or of a launcher."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    if isinstance(cause, (UserError, HydraException, OmegaConfBaseException)):
        return error
    lines = plain(f"{type(cause).__name__}: {cause}").splitlines()
    return UserError(
        f"The jobs could not be started: {lines[0]}",
        where=next((o for o in arguments.overrides if key_of(o) == "hydra/launcher"), None),
        fix="Correct what it says, or choose another launcher. -v shows the traceback.",
    )


def _any_started(record: SweepRecord, before: Sequence[Standing]) -> bool:
    """Whether a job has started, as what stands on the disk is no longer what stood there."""
    known = {s.job.directory: replace(s, job=_NOBODY) for s in before}
    return any(
        replace(s, job=_NOBODY) != known.get(s.job.directory, Standing(_NOBODY))
        for s in standings(record)
    )


def _tidy(record: SweepRecord, made: Sequence[Path], *, new: bool) -> None:
    """Remove Hydra's own record; of a new sweep without a single run, everything."""
    with suppress(OSError):
        (record.path / _HYDRA_RECORD).unlink(missing_ok=True)
    if new and not any(s.run_dir for s in standings(record)):
        folder = record.path / FOLDER
        with suppress(OSError):
            for file in [*folder.glob("*"), record.path / FILE, record.path / STUDY]:
                file.unlink(missing_ok=True)
            folder.rmdir()
    remove_empty(made)


def _check_run_dir(overrides: Sequence[str]) -> None:
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "run_dir" and "," not in value and "${" not in value:
            raise UserError(
                "All jobs of a sweep cannot share one run directory",
                where=override,
                fix=f"Say where the sweep goes instead: sweep_dir={value}",
            )
