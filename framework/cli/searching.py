"""A search from the command line: whether one is asked for, and whether it can be run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from framework.cli.quoting import key_of
from framework.config import options_with
from framework.core.extras import require
from framework.errors import UserError
from framework.search.options import SearchOptions
from framework.sweep.plan import fixed_overrides
from framework.sweep.record import Objective

STUDY = "study.db"
# Options that may change while a search goes on; trials under any others cannot be compared.
_MAY_CHANGE = {
    "search", "jobs", "sweep_dir", "objective", "direction", "verbosity", "loggers", "trust",
    *(f"trainer.{name}" for name in options_with(local=True)),
}  # fmt: skip


def search_options(config: Any, overrides: Sequence[str]) -> SearchOptions | None:
    """Return what a composed configuration says of a search; None if it asks for none.

    Raises:
        UserError: An option has no such value, or Optuna is not installed.
    """
    from omegaconf import OmegaConf

    fixed = fixed_overrides(overrides)
    for override in overrides:
        if is_search(override) and override not in fixed:
            raise UserError(
                "A search has one value for each of its own options",
                where=override,
                fix="Start one search for each, with a sweep_dir= of its own.",
            )
    if not config.search:
        return None
    for override in overrides:
        if override.startswith("hydra/sweeper="):
            raise UserError(
                "A search asks for the jobs itself, without another sweeper",
                where=override,
                fix="Leave it out, or leave out search=.",
            )
    require("optuna", "search", what="search=optuna", where="search=optuna")
    options: Any = OmegaConf.to_container(config.search, resolve=True)
    return SearchOptions.of(options)


def is_search(override: str) -> bool:
    """Whether an override chooses a search, or sets one of its options."""
    return key_of(override).partition(".")[0] == "search"


def check_search(
    sweep_dir: Path,
    options: SearchOptions,
    given: Sequence[str],
    objectives: tuple[Objective, ...],
) -> None:
    """Register the search with Hydra; refuse it before any of it is on the disk.

    Args:
        sweep_dir: The sweep directory.
        options: Those of the search.
        given: Everything that the search varies or fixes, as overrides.
        objectives: What is to be best.

    Raises:
        UserError: There is nothing to search or to judge by, or the study is of something else.
    """
    from framework.search import sweeper
    from framework.search.pruning import check_prunable
    from framework.search.space import space_of
    from framework.search.study import Aim, make_study
    from framework.search.trials import opening

    if not objectives:
        raise UserError(
            "A search needs to know what is good",
            where="search=optuna",
            fix="Give a metric: objective=val/loss, or several: objective=[val/loss,val/accuracy].",
        )
    aim = Aim(space_of(given), objectives, _that_matter(given))
    check_prunable(options, objectives)
    with opening(sweep_dir):
        make_study(options, sweep_dir, aim)
    sweeper.register()


def _that_matter(given: Sequence[str]) -> tuple[str, ...]:
    """Return the overrides that are the same for all jobs and decide what they compute."""
    last = {key_of(override): override for override in given}
    return tuple(
        each
        for each in fixed_overrides(list(last.values()))
        if _MAY_CHANGE.isdisjoint((key_of(each), key_of(each).partition(".")[0]))
    )
