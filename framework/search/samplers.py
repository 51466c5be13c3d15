"""Optuna's samplers and pruners by name."""

from __future__ import annotations

import hashlib
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
)
from optuna.samplers import BaseSampler, CmaEsSampler, GridSampler, RandomSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from framework.core.extras import require
from framework.errors import UserError, choice
from framework.search.options import SearchOptions
from framework.search.space import Space

_SAMPLERS: dict[str, Callable[..., BaseSampler]] = {
    "tpe": TPESampler,
    "random": RandomSampler,
    "cmaes": CmaEsSampler,
}
_PRUNERS: dict[str, Callable[..., BasePruner]] = {
    "none": NopPruner,
    "median": MedianPruner,
    "hyperband": HyperbandPruner,
    "successive_halving": SuccessiveHalvingPruner,
}


class SamplerPerTrial(BaseSampler):
    """Draw each trial's values with a sampler of its own, seeded by the trial's number.

    Optuna's samplers carry a random state in memory: after a kill, one that is seeded would draw
    the first values again. What this one draws follows from the number of the trial and from the
    trials before it, so that a search that was killed goes on as if it had not been.

    Args:
        make: Returns a sampler with a seed.
        seed: Of the search.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._number, self._sampler = -1, make(seed)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            text = f"{self._seed} {trial.number}".encode()
            seed = int.from_bytes(hashlib.sha256(text).digest()[:4], "big")
            self._number, self._sampler = trial.number, self._make(seed)
        return self._sampler

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return what is drawn together."""
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Draw what is drawn together."""
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one value."""
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Prepare a trial."""
        self._of(trial).before_trial(study, trial)

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Note how a trial ended."""
        self._of(trial).after_trial(study, trial, state, values)


class Grid(GridSampler):
    """Every point of the grid once. Optuna's own also stops `study.optimize`, of which is none."""

    def after_trial(
        self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Stop nothing."""


def sampler_of(options: SearchOptions, space: Space) -> BaseSampler:
    """Return the sampler that the options name.

    Raises:
        UserError: It is not installed, has no such argument, or cannot draw from the space.
    """
    given = options.sampler_options or {}
    if options.sampler == "grid":
        points = grid_of(space)
        return SamplerPerTrial(
            lambda seed: _made(Grid, {"seed": options.seed, **given}, "sampler", points),
            options.seed,
        )
    if options.sampler == "cmaes":
        require("cmaes", "search", what="The sampler cmaes", where="search.sampler=cmaes")
        given = {"warn_independent_sampling": False, **given}
    make = _SAMPLERS[options.sampler]
    return SamplerPerTrial(
        lambda seed: _made(make, {"seed": seed, **given}, "sampler"), options.seed
    )


def pruner_of(options: SearchOptions) -> BasePruner:
    """Return the pruner that the options name.

    Raises:
        UserError: It has no such argument.
    """
    made: BasePruner = _made(_PRUNERS[options.pruner], options.pruner_options or {}, "pruner")
    return made


def grid_of(space: Space) -> dict[str, list[Any]]:
    """Return the values of each dimension.

    Raises:
        UserError: One of them is an interval.
    """
    return {key: _values(key, each) for key, each in space.items()}


def _values(key: str, each: Any) -> list[Any]:
    if isinstance(each, CategoricalDistribution):
        return list(each.choices)
    if isinstance(each, FloatDistribution) and each.step is None:
        raise UserError(
            f"A grid has points, but {key} is an interval",
            where="search.sampler=grid",
            fix=f"Give it values: {key}=range({each.low:g},{each.high:g},<step>) or {key}=a,b,c.",
        )
    count = round((each.high - each.low) / each.step) + 1
    return [min(each.high, each.low + n * each.step) for n in range(count)]


def _made(make: Callable[..., Any], given: Mapping[str, Any], what: str, *first: Any) -> Any:
    known = [name for name in inspect.signature(make).parameters if name != "search_space"]
    for name in given:
        if name not in known:
            raise UserError(
                f"Optuna's {make.__name__} has no argument {name!r}",
                where=f"search.{what}_options.{name}",
                fix=choice(name, [n for n in known if n != "seed"]),
            )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return make(*first, **given)
    except (TypeError, ValueError) as error:
        shown = ", ".join(f"{k}: {v}" for k, v in given.items() if k != "seed")
        fix = "Correct it; Optuna's documentation describes the arguments."
        where = f"search.{what}_options={{{shown}}}"
        raise UserError(f"{make.__name__}: {error}", where=where, fix=fix) from None
