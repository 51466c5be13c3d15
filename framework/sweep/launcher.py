"""Hydra's launcher for `jobs=`: several jobs at a time on this machine, each in its own process."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobRuntime, JobStatus, run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from framework.sweep.children import Children
from framework.sweep.claim import standing_of
from framework.sweep.display import SweepDisplay
from framework.sweep.record import Objective, SweepRecord

NAME = "processes"
# Hydra takes plugins only from modules of a package with this name, which other plugins share.
_PACKAGE, _NAME = "hydra_plugins", "keras_task_framework"
_MODULE = f"{_PACKAGE}.{_NAME}"


@dataclass
class ProcessesConfig:
    """`hydra/launcher=processes`, which `jobs=` chooses."""

    _target_: str = field(default=f"{_MODULE}.ProcessLauncher")
    jobs: int = field(default=2, metadata={"help": "How many jobs run at a time."})


class ProcessLauncher(Launcher):
    """Run jobs in processes of their own on this machine.

    Args:
        jobs: How many run at a time.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._config = DictConfig({})
        self._context: HydraContext | None = None
        self._function: TaskFunction | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra has composed."""
        self._config, self._context, self._function = config, hydra_context, task_function

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        """Run jobs to their ends; return the value of each one's objective."""
        setup_globals()
        record = SweepRecord(Path(str(self._config.hydra.sweep.dir)))
        entries = [record.register(list(each)) for each in job_overrides]
        objective = record.read().objective
        composed: dict[int, Any] = {}

        def prepared(place: int) -> Any:
            config = self._composed(list(job_overrides[place]), initial_job_idx + place)
            state = {kind: kind.instance() for kind in (GlobalHydra, ConfigStore, JobRuntime)}
            composed[place] = config
            return run_composed, (self._function, self._context, config, state)

        with SweepDisplay(len(entries), self._jobs, objective) as display:
            Children(record, self._jobs, display).run(
                [(job, partial(prepared, place)) for place, job in enumerate(entries)]
            )
        return [
            returned(composed.get(place), value_of(record, entry, objective))
            for place, entry in enumerate(entries)
        ]

    def _composed(self, overrides: list[str], number: int) -> DictConfig:
        assert self._context is not None
        config = self._context.config_loader.load_sweep_config(self._config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config


ProcessLauncher.__module__ = _MODULE


def returned(config: DictConfig | None, value: float | None) -> JobReturn:
    """Return what Hydra's sweepers expect of a job that has ended."""
    made = JobReturn(status=JobStatus.COMPLETED)
    made.return_value = value
    if config is not None:
        overrides: Any = OmegaConf.to_container(config.hydra.overrides.task)
        made.overrides = overrides
    return made


def value_of(record: SweepRecord, job: Any, objective: Objective | None) -> float | None:
    """Return what a job measured of the objective; NaN if it failed or did not measure it."""
    if objective is None:
        return None
    found = standing_of(record, job)
    return found.metrics.get(objective.metric, math.nan) if found.finished else math.nan


def run_composed(
    function: TaskFunction, context: HydraContext, config: DictConfig, state: dict[Any, Any]
) -> None:
    """Run a job in a child process, as Hydra's own launchers do in theirs."""
    own = Singleton.get_state()
    Singleton.set_state({**own, "instances": {**own["instances"], **state}})
    setup_globals()
    run_job(
        hydra_context=context,
        task_function=function,
        config=config,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )


def register() -> None:
    """Make `hydra/launcher=processes` a choice."""
    try:
        package = import_module(_PACKAGE)
    except ImportError:  # no plugin is installed
        package = sys.modules[_PACKAGE] = ModuleType(_PACKAGE)
        package.__path__ = []
    sys.modules[_MODULE] = sys.modules[__name__]
    setattr(package, _NAME, sys.modules[__name__])
    ConfigStore.instance().store(group="hydra/launcher", name=NAME, node=ProcessesConfig)
    Plugins.instance().register(ProcessLauncher)
