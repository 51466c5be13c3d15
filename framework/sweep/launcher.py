"""Hydra's launcher for `jobs=`: several jobs at a time on this machine, each in its own process."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
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

from framework.sweep.children import Children, Work
from framework.sweep.claim import standing_of
from framework.sweep.display import SweepDisplay
from framework.sweep.record import JobEntry, Objective, SweepRecord

NAME = "processes"
# Hydra takes plugins only from modules of a package with this name, which other plugins share.
PACKAGE = "hydra_plugins"
_MODULE = f"{PACKAGE}.keras_task_framework"
Value = float | list[float] | None


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
        jobs = iter(job_overrides)
        return self.run(lambda: next(jobs, None), len(job_overrides), initial_job_idx)

    def run(
        self,
        take: Callable[[], Sequence[str] | None],
        total: int,
        first: int,
        ended: Callable[[], None] = lambda: None,
    ) -> Sequence[JobReturn]:
        """Run jobs that are asked for as soon as one can start.

        Args:
            take: Returns the overrides of the next job; None: there is none now.
            total: How many there are to be, for the display.
            first: The number of the first job, for Hydra.
            ended: Called whenever a job has ended.

        Returns:
            The value of each one's objective.
        """
        setup_globals()
        record = SweepRecord(Path(str(self._config.hydra.sweep.dir)))
        objectives = record.read().objectives
        started: list[tuple[JobEntry, DictConfig]] = []

        def work() -> Work | None:
            overrides = take()
            if overrides is None:
                return None
            config = self._composed(list(overrides), first + len(started))
            state = {kind: kind.instance() for kind in (GlobalHydra, ConfigStore, JobRuntime)}
            entry = record.register(list(overrides))
            started.append((entry, config))
            return entry, run_composed, (self._function, self._context, config, state)

        with SweepDisplay(total, self._jobs, objectives) as display:
            Children(record, self._jobs, display).run(work, ended)
        return [returned(config, value_of(record, entry, objectives)) for entry, config in started]

    def _composed(self, overrides: list[str], number: int) -> DictConfig:
        assert self._context is not None
        config = self._context.config_loader.load_sweep_config(self._config, overrides)
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = number
        return config


ProcessLauncher.__module__ = _MODULE


def returned(config: DictConfig, value: Value) -> JobReturn:
    """Return what Hydra's sweepers expect of a job that has ended."""
    made = JobReturn(status=JobStatus.COMPLETED)
    made.return_value = value
    overrides: Any = OmegaConf.to_container(config.hydra.overrides.task)
    made.overrides = overrides
    return made


def value_of(record: SweepRecord, job: JobEntry, objectives: Sequence[Objective]) -> Value:
    """Return what a job measured of the objectives, for Hydra's sweepers.

    NaN stands for what it did not measure, or if it failed; None if there is no objective.
    """
    found = standing_of(record, job)
    return value_in(found.metrics if found.finished else {}, objectives)


def value_in(metrics: Mapping[str, float], objectives: Sequence[Objective]) -> Value:
    """Return the value of one objective, or of several, among these metrics."""
    values = [metrics.get(objective.metric, math.nan) for objective in objectives]
    return values if len(values) > 1 else next(iter(values), None)


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
    enter_hydra_plugins(_MODULE, sys.modules[__name__])
    ConfigStore.instance().store(group="hydra/launcher", name=NAME, node=ProcessesConfig)
    Plugins.instance().register(ProcessLauncher)


def enter_hydra_plugins(name: str, module: ModuleType) -> None:
    """Let a module be found as one of the package that Hydra takes plugins from."""
    package, _, last = name.rpartition(".")
    try:
        parent = import_module(package)
    except ImportError:  # no plugin is installed
        parent = sys.modules[package] = ModuleType(package)
        parent.__path__ = []
    sys.modules[name] = module
    setattr(parent, last, module)
