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
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from framework.cli.arguments import Arguments
from framework.cli.closed_stdio import lasting_streams
from framework.cli.console import show_error, show_log
from framework.cli.did_you_mean import check_debug
from framework.cli.help import help_text, usage
from framework.cli.hydra_main import job_of, overrides_of_job, run_with_hydra
from framework.cli.quoting import key_of, value_of
from framework.core.paths import working_directory
from framework.core.signals import ending_signals, leave, queue_again
from framework.errors import UserError
from framework.text.escape import plain


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
    debug = bool({"-v", "--verbose"}.intersection(words))
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
    if arguments.verbose and arguments.multirun:
        arguments.overrides.append("verbosity=2")
    sweeps = arguments.multirun or sweeps_by_file(arguments)
    _check_hydra_dirs(arguments.overrides, sweeps)
    check_debug(arguments.overrides)
    if not sweeps:
        from framework.cli.evaluated_config import with_earlier

        _check_single(arguments.overrides)
        arguments.overrides = with_earlier(arguments.overrides)
    if arguments.only_shows:
        _show(arguments)
        return 0
    show_log(_verbosity(arguments.overrides))
    if sweeps:
        from framework.cli.sweeping import sweep

        code = sweep(arguments)
        queue_again(code)
        return code
    codes: list[int] = []

    def job(config: Any) -> None:
        from framework.cli.one_run import run

        codes.append(
            run(
                job_of(
                    config, arguments.config_dir, command=arguments.words, verbose=arguments.verbose
                )
            ).code
        )

    run_with_hydra(arguments, job)
    return codes[0]


def _verbosity(overrides: Sequence[str]) -> int:
    """Return how much to show before the configuration is known."""
    given = [value_of(o) for o in overrides if key_of(o) == "verbosity"]
    return int(given[-1]) if given and given[-1] in ("0", "1", "2") else 1


def _show(arguments: Arguments) -> None:
    """Print what the flags ask for; print a run's configuration exactly as the run would use it."""
    flags, resolve = arguments.flags, "--resolve" in arguments.flags
    shows_job = {"--cfg", "-c"} & set(flags) and "job" in flags
    if not shows_job or len(flags) > 2 + resolve:
        run_with_hydra(arguments, lambda config: None)
        return
    arguments.flags = []

    def show(config: Any) -> None:
        from omegaconf import OmegaConf

        from framework.cli.replaced_choices import fitted

        shown = fitted(config, overrides_of_job(), arguments.config_dir)
        print(plain(OmegaConf.to_yaml(shown, resolve=resolve)), end="")

    run_with_hydra(arguments, show)


def sweeps_by_file(arguments: Arguments) -> bool:
    """Whether a file of the project, or an override, makes every run of it a sweep.

    Only a project that has the word MULTIRUN in a file pays for composing it to find out.
    """
    folder = arguments.config_dir
    if folder is None or arguments.only_shows:
        return False
    files = [path for path in folder.rglob("*.yaml") if path.is_file() and os.access(path, os.R_OK)]
    if not any(b"MULTIRUN" in path.read_bytes() for path in files):
        return False
    from hydra.types import RunMode

    from framework.cli.hydra_main import composed_for_all

    return bool(composed_for_all(arguments).hydra.mode == RunMode.MULTIRUN)


def _check_hydra_dirs(overrides: Sequence[str], sweeps: bool) -> None:
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key == "hydra.sweep.dir" and sweeps:
            continue
        if key in ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"):
            right = "run_dir" if key == "hydra.run.dir" else "sweep_dir"
            raise UserError(
                f"{key} has no effect: a run has a directory of its own",
                where=override,
                fix=f"Write {right}={value}",
            )


def _check_single(overrides: Sequence[str]) -> None:
    for override in overrides:
        key, _, value = override.lstrip("+").partition("=")
        if key.partition(".")[0] == "search" and value != "none":
            raise UserError(
                "A search runs many jobs, but this is a single run",
                where=override,
                fix="Add -m, and say what varies: -m optimizer=adam,sgd",
            )
        if key == "sweep_dir" and value not in ("null", ""):
            raise UserError(
                "sweep_dir is for sweeps, but this is a single run",
                where=override,
                fix=f"Add -m to sweep, or say where the run goes: run_dir={value}",
            )


if __name__ == "__main__":
    sys.exit(main())
