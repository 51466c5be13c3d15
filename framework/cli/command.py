"""The command line: compose a configuration, run it, and report the outcome.

    keras-task task=<name> [key=value ...]          same as python -m framework ...

Exit codes: 0 completed or stopped on purpose; 1 failed; 2 error in the configuration or the task's
code; 130 Ctrl-C; 143 SIGTERM; 129 closed terminal; 138 SIGUSR1 and 140 SIGUSR2, before a job's time
is over.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.cli.arguments import Arguments
from framework.cli.closed_stdio import lasting_streams
from framework.cli.console import show_error, show_log
from framework.cli.help import help_text, usage
from framework.cli.quoting import again, key_of, quoted, value_of
from framework.core.paths import local_path, working_directory
from framework.core.signals import ending_signals, leave
from framework.errors import UserError
from framework.text.escape import hiding, one_line, plain

if TYPE_CHECKING:
    from framework.cli.job import Job


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: The arguments. Default: those of the process.

    Returns:
        The exit code.
    """
    with lasting_streams():
        return _guarded(list(sys.argv[1:] if argv is None else argv))


def _guarded(words: list[str]) -> int:
    debug = bool({"-v", "--verbose", "debug=true", "debug=True"}.intersection(words))
    # Until the trainer handles these signals, they end the process cleanly.
    asking = [number for number in ending_signals() if number != signal.SIGINT]
    former = {number: signal.signal(number, leave) for number in asking}
    try:
        return _main(Arguments.parse(words))
    except UserError as error:
        show_error(error, debug)
        return 2
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 128 + signal.SIGINT
    except Exception as error:
        show_error(error, debug)
        if not debug:
            print("-v shows the traceback.", file=sys.stderr)
        return 1
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _main(arguments: Arguments) -> int:
    if arguments.help:
        print(plain(help_text(arguments.config_dir)))
        return 0
    if "--version" in arguments.flags:
        print(f"keras-task-framework {version('keras-task-framework')}")
        return 0
    if not arguments.overrides and not arguments.flags:
        print(plain(usage(arguments.config_dir)), file=sys.stderr)
        return 2
    here = str(working_directory())
    if here not in map(os.path.abspath, sys.path):
        # `python -m` adds the working directory to sys.path; a console script does not.
        sys.path.insert(0, here)
    if arguments.verbose:
        arguments.overrides.append("debug=true")
    _check_hydra_dirs(arguments.overrides)
    if not arguments.multirun:
        from framework.cli.evaluated_config import with_earlier

        _check_sweep_dir(arguments.overrides)
        arguments.overrides = with_earlier(arguments.overrides)
    if arguments.only_shows:
        _show(arguments)
        return 0
    show_log()
    if arguments.multirun:
        return _sweep(arguments)
    codes: list[int] = []

    def job(config: Any) -> None:
        from framework.cli.one_run import run

        codes.append(run(_job(arguments, config)).code)

    _with_hydra(arguments, job)
    return codes[0]


def _show(arguments: Arguments) -> None:
    """Print what the flags ask for; print a run's configuration exactly as the run would use it."""
    flags, resolve = arguments.flags, "--resolve" in arguments.flags
    shows_job = {"--cfg", "-c"} & set(flags) and "job" in flags
    if not shows_job or len(flags) > 2 + resolve:
        _with_hydra(arguments, lambda config: None)
        return
    arguments.flags = []

    def show(config: Any) -> None:
        from omegaconf import OmegaConf

        from framework.cli.replaced_choices import fitted

        shown = fitted(config, _overrides_of_job(), arguments.config_dir)
        print(plain(OmegaConf.to_yaml(shown, resolve=resolve)), end="")

    _with_hydra(arguments, show)


def _sweep(arguments: Arguments) -> int:
    from hydra.core.hydra_config import HydraConfig

    from framework.cli.job import Outcome
    from framework.cli.one_run import run
    from framework.cli.run_dir import make_dirs, make_unique, remove_empty, writing
    from framework.cli.sweep import SweepJob, fixed_keys, job_name, planned_jobs, print_table

    given = [value_of(o) for o in arguments.overrides if key_of(o) == "sweep_dir"]
    _check_run_dir(arguments.overrides)
    parent = local_path(given[-1] if given else "runs", "sweep_dir")
    with writing(parent):
        made = make_dirs(parent) if given else make_unique(parent, "sweep-")
    sweep_dir = parent if given else made[-1]
    arguments.overrides.append(f"hydra.sweep.dir={quoted(sweep_dir)}")
    fixed = fixed_keys(arguments.overrides)
    jobs: list[SweepJob] = []

    def job(config: Any) -> None:
        number = int(HydraConfig.get().job.num)
        overrides = _overrides_of_job()
        varied = tuple(o for o in overrides if key_of(o) not in fixed)
        print(f"\n#{number}  {one_line(' '.join(varied))}".rstrip(), flush=True)
        try:
            outcome = run(_job(arguments, config, sweep_dir / job_name(number, varied)))
        except UserError as error:
            show_error(error, debug=False)
            outcome = Outcome(2, "refused", error=error.what)
        jobs.append(SweepJob(number, varied, outcome))
        if outcome.status == "interrupted":
            raise KeyboardInterrupt

    try:
        with writing(sweep_dir):
            _with_hydra(arguments, job)
    except KeyboardInterrupt:
        if not jobs:
            raise
        swept = [o for o in arguments.overrides if not o.startswith(("hydra.", "hydra/"))]
        planned = enumerate(planned_jobs(swept))
        left = [(number, varied) for number, varied in planned if number > jobs[-1].number]
        jobs += [SweepJob(number, varied, Outcome(0, "not run")) for number, varied in left]
    finally:
        if not any(job.outcome.run_dir for job in jobs):
            if sweep_dir in made:
                (sweep_dir / "multirun.yaml").unlink(missing_ok=True)
            remove_empty(made)
    print_table(jobs, sweep_dir)
    if any(job.outcome.status == "interrupted" for job in jobs):
        print(plain(f"To continue: {again(arguments.words, sweep_dir=sweep_dir)}"))
    return next((j.outcome.code for j in jobs if j.outcome.code), 0)


def _check_hydra_dirs(overrides: Sequence[str]) -> None:
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key in ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"):
            right = "run_dir" if key == "hydra.run.dir" else "sweep_dir"
            raise UserError(
                f"{key} has no effect: a run has a directory of its own",
                where=override,
                fix=f"Write {right}={value}",
            )


def _check_sweep_dir(overrides: Sequence[str]) -> None:
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "sweep_dir" and value not in ("null", ""):
            raise UserError(
                "sweep_dir is for sweeps, but this is a single run",
                where=override,
                fix=f"Add -m to sweep, or say where the run goes: run_dir={value}",
            )


def _check_run_dir(overrides: Sequence[str]) -> None:
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "run_dir" and "," not in value and "${" not in value:
            raise UserError(
                "All jobs of a sweep cannot share one run directory",
                where=override,
                fix=f"Say where the sweep goes instead: sweep_dir={value}",
            )


def _job(arguments: Arguments, config: Any, run_dir: Path | None = None) -> Job:
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from framework.cli.env_references import References, find_references, recorded
    from framework.cli.evaluated_config import laid_over_run
    from framework.cli.job import Job
    from framework.cli.refused_override import check_added, no_such_task
    from framework.cli.replaced_choices import fitted

    hydra = HydraConfig.get()
    task = str(hydra.runtime.choices["task"])
    if task.startswith("_"):
        raise no_such_task(task, arguments.config_dir)
    overrides = _overrides_of_job()
    config = fitted(config, overrides, arguments.config_dir)
    read: dict[str, str] = {}
    try:
        with recorded(read):
            values: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None)
        with hiding(References(variables=read).hidden({})):
            what = str(error).splitlines()[0]
            name = key and str(key)
            fix = f"Set {name}=<value>." if name else "Correct it; --cfg job shows it."
            raise UserError(what, where=name, fix=fix) from None
    references = find_references(config) if read else References()
    check_added(overrides, values, arguments.config_dir)
    if values["mode"] != "fit" and (place := values["run_dir"] or run_dir):
        values = laid_over_run(values, overrides, local_path(place, "run_dir"), references)
    command = () if arguments.multirun else arguments.words
    return Job(values, task, overrides, run_dir, references, command)


def _overrides_of_job() -> list[str]:
    """Return the current job's overrides as typed; references to the environment stay."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    given: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(override) for override in given]


def _split_sweep(arguments: Arguments) -> tuple[list[str], dict[str, str] | None]:
    """Return the overrides for Hydra, and those for its sweeper."""
    overrides = list(arguments.overrides)
    if not arguments.multirun or any(o.startswith("hydra/sweeper=") for o in overrides):
        return overrides, None
    kept = [o for o in overrides if o.startswith(("hydra.", "hydra/", "~")) or "=" not in o]
    swept = [o.partition("=") for o in overrides if o not in kept]
    return kept, {key: value for key, _, value in swept}


def _with_hydra(arguments: Arguments, job: Callable[[Any], None]) -> None:
    """Let Hydra compose the configuration; call `job` with it once per combination."""
    import hydra
    from hydra.errors import HydraException

    from framework.cli.groups.root import ROOT, register
    from framework.cli.replaced_choices import chosen_groups

    overrides, sweep = _split_sweep(arguments)
    register(sweep, chosen_groups(arguments.overrides))
    # Makes Hydra raise errors that it would otherwise print with its own advice.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Merging a project's conf/optimizer/adam.yaml over the library's schema is intended.
    warnings.filterwarnings("ignore", r"\s*'[^']*' is validated against ConfigStore schema")
    argv = [sys.argv[0], *arguments.flags]
    if arguments.config_dir:
        argv += ["--config-dir", str(arguments.config_dir)]
    failures: list[Exception] = []

    def guarded(config: Any) -> None:
        # Hydra would report an exception in its own way.
        try:
            job(config)
        except Exception as error:
            failures.append(error)

    guarded.__module__ = __name__
    decorated = hydra.main(
        config_path="pkg://framework.cli.groups", config_name=ROOT, version_base="1.3"
    )(guarded)
    former, sys.argv = sys.argv, [*argv, *overrides]
    try:
        decorated()
    except Exception as error:
        # Hydra's own "not found" is also an OSError.
        if isinstance(error, OSError) and not isinstance(error, HydraException):
            raise
        from framework.cli.refused_override import diagnose

        found = diagnose(error, arguments.overrides, arguments.config_dir, arguments.multirun)
        raise found from error
    finally:
        sys.argv = former
    if failures:
        raise failures[0]


if __name__ == "__main__":
    sys.exit(main())
