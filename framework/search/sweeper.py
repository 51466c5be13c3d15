"""Hydra's sweeper for `search=`: it asks Optuna for the jobs, and gives them to any launcher."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from framework.search.options import SearchOptions
from framework.search.space import covering, space_of
from framework.search.trials import Trials
from framework.sweep.launcher import PACKAGE, ProcessLauncher, enter_hydra_plugins
from framework.sweep.plan import fixed_overrides
from framework.sweep.record import SweepRecord

NAME = "search"
_MODULE = f"{PACKAGE}.keras_task_framework_search"
_PAUSE = 1.0  # seconds between two looks at what other processes do

_log = logging.getLogger("framework")


@dataclass
class SearchConfig:
    """`hydra/sweeper=search`, which `search=` chooses."""

    _target_: str = f"{_MODULE}.SearchSweeper"
    params: Optional[dict[str, str]] = field(default=None)  # noqa: UP045 - OmegaConf reads it


class SearchSweeper(Sweeper):
    """Run the trials of a search.

    Args:
        params: What the project's files and the command line vary, by key.
    """

    def __init__(self, params: Mapping[str, str] | None = None) -> None:
        self._params = params or {}
        self._launcher: Any = None
        self.config: DictConfig | None = None
        self.hydra_context: HydraContext | None = None

    def setup(
        self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig
    ) -> None:
        """Take what Hydra has composed, and make the launcher."""
        self.config, self.hydra_context = config, hydra_context
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until the study has as many as it is to have.

        Raises:
            HydraException: Hydra refuses one of the choices.
        """
        assert self.config is not None
        given = [*(f"{key}={value}" for key, value in self._params.items()), *arguments]
        fixed = fixed_overrides(given)
        record = SweepRecord(Path(str(self.config.hydra.sweep.dir)))
        options: Any = OmegaConf.to_container(self.config.search, resolve=True)
        options = SearchOptions.of(options)
        space = space_of(given)
        self.validate_batch_is_legal([[*fixed, *each] for each in covering(space)])
        with Trials(record, options, space, fixed) as trials:
            self._run(trials, options.batch)
            if not trials.wrong:
                _log.info("search: %s", trials)

    def _run(self, trials: Trials, batch: int) -> None:
        number, waits = 0, False
        while not trials.stopped:
            started = self._launch(trials, number, batch)
            number += started
            if not started and not trials.elsewhere:
                return
            if not started:
                if not waits:
                    _log.info("waiting for trials of other processes: %s", trials.elsewhere)
                waits = True
                time.sleep(_PAUSE)

    def _launch(self, trials: Trials, number: int, batch: int) -> int:
        """Run some trials; return how many."""
        if isinstance(self._launcher, ProcessLauncher):
            started = len(self._launcher.run(trials.take, trials.left, number, trials.settle))
        else:
            jobs: list[Sequence[str]] = []
            while len(jobs) < batch and (job := trials.take()):
                jobs.append(job)
            started = len(self._launcher.launch(jobs, initial_job_idx=number) if jobs else ())
            trials.settle()
        trials.let_go()
        return started


SearchSweeper.__module__ = _MODULE


def register() -> None:
    """Make `hydra/sweeper=search` a choice."""
    enter_hydra_plugins(_MODULE, sys.modules[__name__])
    ConfigStore.instance().store(group="hydra/sweeper", name=NAME, node=SearchConfig)
    Plugins.instance().register(SearchSweeper)
