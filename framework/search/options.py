"""The options of a search: types, defaults, one-line help. Imports no Optuna, no TensorFlow."""

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Optional

from framework.errors import UserError
from framework.every import Every
from framework.options.option import check, option, refuse

SAMPLERS = ("tpe", "random", "grid", "cmaes")
SWEEPER = "hydra/sweeper=search"
"""What `search=` chooses for Hydra."""
PRUNERS = ("none", "median", "hyperband", "successive_halving")
_WHOLE = "a whole number of 1 or more"


@dataclass(frozen=True)
class SearchOptions:
    """`search=optuna`: what to ask Optuna for, and how often.

    Example:
        >>> SearchOptions.of({"n_trials": 50, "sampler": "cmaes"}).pruner
        'none'
    """

    n_trials: int = option(20, "How many trials the study has at the end.", least=1, wanted=_WHOLE)
    timeout: Optional[str] = option(None, "After how long no new trial starts: 30min, 8h.")
    sampler: str = option("tpe", f"What draws values: {', '.join(SAMPLERS)}.", choices=SAMPLERS)
    sampler_options: Any = option(None, "Arguments of Optuna's sampler: {multivariate: true}.")  # noqa: RUF009
    pruner: str = option(
        "none", f"What ends hopeless trials: {', '.join(PRUNERS)}.", choices=PRUNERS
    )
    pruner_options: Any = option(None, "Arguments of Optuna's pruner: {n_startup_trials: 3}.")  # noqa: RUF009
    seed: int = option(0, "Seed of the sampler, besides the number of the trial.")
    storage: Optional[str] = option(
        None, "A database's URL, or the path of a journal; null: study.db in the sweep directory."
    )
    study: Optional[str] = option(None, "The study's name; null: that of the sweep directory.")
    batch: int = option(
        1, "How many trials Hydra's own launchers get at a time.", least=1, wanted=_WHOLE
    )

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> SearchOptions:
        """Return the options of a configuration's `search` node.

        Raises:
            UserError: A value is out of range, or not among the choices.
        """
        for known in fields(cls):
            check(known.name, given.get(known.name, known.default), known.metadata, "search")
        for name in ("sampler_options", "pruner_options"):
            if not isinstance(given.get(name, {}), (Mapping, type(None))):
                refuse(name, given[name], "arguments by name, such as {seed: 1}", "search")
        made = cls(**given)
        _ = made.seconds
        return made

    @property
    def seconds(self) -> float | None:
        """The timeout in seconds.

        Raises:
            UserError: It is no time.
        """
        if self.timeout is None:
            return None
        wanted = "a time: 90s, 30min, 8h"
        try:
            seconds = Every(self.timeout).seconds
        except UserError:
            seconds = None
        if seconds is None:
            refuse("timeout", self.timeout, wanted, "search")
        return seconds
