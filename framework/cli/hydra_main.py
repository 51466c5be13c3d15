"""Let Hydra compose a configuration, and turn it into a job."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.cli.arguments import Arguments
from framework.core.paths import local_path
from framework.errors import UserError
from framework.search.options import SWEEPER
from framework.sweep.plan import fixed_overrides
from framework.text.escape import hiding

# Overrides that are the same for all jobs, as Hydra or this program reads them before the jobs.
_OF_THE_SWEEP = ("hydra.", "hydra/", "~", "search=", "search.")
# So are the files of one task and one experiment: they can ask for a search, or name the objective.
_FILES = ("task=", "experiment=")

if TYPE_CHECKING:
    from framework.cli.job import Job


def job_of(
    config: Any,
    config_dir: Path | None,
    run_dir: Path | None = None,
    command: Sequence[str] = (),
    *,
    verbose: bool = False,
) -> Job:
    """Return the job that a composed configuration describes.

    Args:
        config: What Hydra has composed.
        config_dir: The project's directory of configuration.
        run_dir: Where the run goes, unless the configuration says so.
        command: The words of the command line, for messages that repeat it.
        verbose: Whether to show tracebacks; `verbosity=2` shows them too.

    Raises:
        UserError: A value is missing, refers to nothing, or belongs to nothing.
    """
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
        raise no_such_task(task, config_dir)
    overrides = overrides_of_job()
    config = fitted(config, overrides, config_dir)
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
    if hydra.runtime.choices["debug"] == "overfit" and (values["data"] or {}).get("augment"):
        values["data"]["augment"] = None
    references = find_references(config) if read else References()
    check_added(overrides, values, config_dir)
    if values["search"] and values["mode"] == "fit":
        _check_searched(hydra.runtime.choices["hydra/sweeper"])
    if values["mode"] != "fit" and (place := values["run_dir"] or run_dir):
        values = laid_over_run(values, overrides, local_path(place, "run_dir"), references)
    verbose = verbose or values["verbosity"] == 2
    return Job(values, task, overrides, run_dir, references, command, verbose)


def _check_searched(sweeper: str) -> None:
    """Refuse a search that a file asks for where nothing searches."""
    if f"hydra/sweeper={sweeper}" != SWEEPER:
        raise UserError(
            "A file asks for a search, which runs many jobs, but nothing searches",
            where="search",
            fix="Add -m and search=optuna.",
        )


def overrides_of_job() -> list[str]:
    """Return the current job's overrides as typed; references to the environment stay."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    given: Any = OmegaConf.to_container(HydraConfig.get().overrides.task, resolve=False)
    return [str(override) for override in given]


def config_dir_of_job() -> Path | None:
    """Return the directory of configuration that the current job was composed from, if any."""
    from hydra.core.hydra_config import HydraConfig

    sources = HydraConfig.get().runtime.config_sources
    return next((Path(each.path) for each in sources if each.provider == "command-line"), None)


def with_hydra(arguments: Arguments, function: Callable[[Any], Any]) -> None:
    """Let Hydra compose the configuration; call a function with it once per combination.

    Args:
        arguments: The command line.
        function: What to call. One of a sweep's jobs must be a function of a module, since Hydra's
            launchers send it to other processes, and raise nothing.

    Raises:
        UserError: The configuration cannot be composed.
    """
    import hydra

    overrides = _prepare(arguments)
    argv = [sys.argv[0], *arguments.flags]
    if arguments.config_dir:
        argv += ["--config-dir", str(arguments.config_dir)]
    decorated = hydra.main(
        config_path="pkg://framework.cli.groups", config_name=_root(), version_base="1.3"
    )(function)
    former, sys.argv = sys.argv, [*argv, *overrides]
    try:
        decorated()
    except UserError:  # of a sweeper
        raise
    except Exception as error:
        if isinstance(error, OSError) and not _is_of_hydra(error):
            raise
        raise _diagnosed(error, arguments) from error
    finally:
        sys.argv = former


def run_with_hydra(arguments: Arguments, job: Callable[[Any], None]) -> None:
    """Let Hydra compose the configuration of one run, and call `job` with it.

    Hydra's own entry point would compose it twice, the first time to see whether it is a sweep.
    """
    failures: list[Exception] = []

    def guarded(config: Any) -> None:
        # Hydra would report an exception in its own way.
        try:
            job(config)
        except Exception as error:
            failures.append(error)

    guarded.__module__ = __name__
    if arguments.flags:  # Hydra's own, such as --info
        with_hydra(arguments, guarded)
    else:
        with _hydra(arguments) as (hydra, overrides):
            hydra.run(config_name=_root(), task_function=guarded, overrides=overrides)
    if failures:
        raise failures[0]


def composed_for_all(arguments: Arguments) -> Any:
    """Return the configuration that the jobs of a sweep share, with that of Hydra.

    What a sweep varies and fixes for each of its jobs stands only in `hydra.sweeper.params`.

    Raises:
        UserError: It cannot be composed.
    """
    from hydra.types import RunMode

    with _hydra(arguments) as (hydra, overrides):
        return hydra.compose_config(
            config_name=_root(),
            overrides=overrides,
            run_mode=RunMode.MULTIRUN,
            with_log_configuration=False,
            validate_sweep_overrides=False,
        )


@contextmanager
def _hydra(arguments: Arguments) -> Iterator[tuple[Any, list[str]]]:
    """Set up Hydra for a command line; yield it, and the overrides for it.

    Raises:
        UserError: The configuration cannot be composed in the body.
    """
    from hydra import initialize_config_dir, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    overrides = _prepare(arguments)
    folder = arguments.config_dir and str(arguments.config_dir.resolve())
    try:
        with (
            initialize_config_dir(folder, version_base="1.3")
            if folder
            else initialize_config_module("framework.cli.groups", version_base="1.3")
        ):
            yield GlobalHydra.instance().hydra, overrides
    except Exception as error:
        # Hydra's own "not found" is also an OSError.
        if isinstance(error, OSError) and not _is_of_hydra(error):
            raise
        raise _diagnosed(error, arguments) from error


def _is_of_hydra(error: Exception) -> bool:
    from hydra.errors import HydraException

    return isinstance(error, HydraException)


def _root() -> str:
    from framework.cli.groups.root import ROOT

    return ROOT


def _prepare(arguments: Arguments) -> list[str]:
    """Register what Hydra needs to know; return the overrides for it."""
    from framework.cli.groups.root import register
    from framework.cli.replaced_choices import chosen_groups

    overrides, sweep = _split_sweep(arguments)
    register(sweep, chosen_groups(arguments.overrides))
    # Makes Hydra raise errors that it would otherwise print with its own advice.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    # Merging a project's conf/optimizer/adam.yaml over the library's schema is intended.
    warnings.filterwarnings("ignore", r"\s*'[^']*' is validated against ConfigStore schema")
    return overrides


def _split_sweep(arguments: Arguments) -> tuple[list[str], dict[str, str] | None]:
    """Return the overrides for Hydra, and those for its sweeper."""
    overrides = list(arguments.overrides)
    own = [o for o in overrides if o.startswith("hydra/sweeper=") and o != SWEEPER]
    if own or not arguments.multirun:
        return overrides, None
    kept = [o for o in overrides if o.startswith(_OF_THE_SWEEP) or "=" not in o]
    kept += fixed_overrides([o for o in overrides if o.startswith(_FILES)])
    swept = [o.partition("=") for o in overrides if o not in kept]
    return kept, {key: value for key, _, value in swept}


def _diagnosed(error: Exception, arguments: Arguments) -> UserError:
    from framework.cli.refused_override import diagnose

    return diagnose(error, arguments.overrides, arguments.config_dir, arguments.multirun)
