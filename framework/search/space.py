"""The space of a search: from Hydra's overrides to Optuna's distributions, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, ValueType
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import Trial

from framework.errors import UserError

Distribution = FloatDistribution | IntDistribution | CategoricalDistribution
Space = Mapping[str, Distribution]


def space_of(overrides: Iterable[str]) -> dict[str, Distribution]:
    """Return what a search varies, by key; of several overrides of one key, the last counts.

    Example:
        >>> space_of(["task=mine", "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"])
        {'optimizer.learning_rate': FloatDistribution(high=0.1, log=True, low=0.0001, step=None)}

    Raises:
        UserError: There is nothing to search, or Optuna has no such distribution.
    """
    parser = OverridesParser.create()
    parsed = {}
    for text in overrides:
        override = parser.parse_override(text)
        parsed[override.get_key_element()] = override
    space = {key: _distribution(o) for key, o in parsed.items() if o.is_sweep_override()}
    if not space:
        raise UserError(
            "There is nothing to search: every option has one value",
            where="search=optuna",
            fix="Give a range or several values, in quotes: "
            "'optimizer.learning_rate=tag(log,interval(1e-4,1e-1))' optimizer=adam,sgd",
        )
    return space


def overrides_of(params: Mapping[str, Any]) -> list[str]:
    """Return the overrides that set a trial's parameters.

    Example:
        >>> overrides_of({"optimizer.learning_rate": 0.01, "optimizer": "adam"})
        ['optimizer.learning_rate=0.01', 'optimizer=adam']
    """
    return [f"{key}={value}" for key, value in params.items()]


def covering(space: Space) -> list[list[str]]:
    """Return the overrides of a few jobs in which every choice occurs once.

    Example:
        >>> covering(space_of(["optimizer=adam,sgd", "seed=1,2,3"]))[2]
        ['optimizer=adam', 'seed=3']
    """
    values = {
        key: each.choices if isinstance(each, CategoricalDistribution) else (each.low,)
        for key, each in space.items()
    }
    most = max(map(len, values.values()))
    return [
        overrides_of({key: each[n % len(each)] for key, each in values.items()})
        for n in range(most)
    ]


def suggest(trial: Trial, key: str, each: Distribution) -> Any:
    """Draw one parameter of a trial; one that was drawn before stays as it is."""
    if isinstance(each, FloatDistribution):
        return trial.suggest_float(key, each.low, each.high, step=each.step, log=each.log)
    if isinstance(each, IntDistribution):
        return trial.suggest_int(key, each.low, each.high, step=each.step, log=each.log)
    return trial.suggest_categorical(key, each.choices)


def _distribution(override: Override) -> Distribution:
    line = str(override.input_line)
    swept: Any = override.value()
    if override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        raise UserError("A search cannot look up names", where=line, fix="List them: a,b,c.")
    log = "log" in swept.tags
    try:
        if isinstance(swept, IntervalSweep):
            low: Any = swept.start
            high: Any = swept.end
            whole = isinstance(low, int) and isinstance(high, int)  # int(interval(1,8))
            return (IntDistribution if whole else FloatDistribution)(low, high, log=log)
        if isinstance(swept, RangeSweep):
            return _of_range(swept, log)
        if log:
            raise ValueError("log is for an interval or a range, not for a list of values")
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except ValueError as error:
        fix = "Write interval(low,high), range(first,end,step) or choice(a,b)."
        raise UserError(f"{override.key_or_group}: {error}", where=line, fix=fix) from None


def _of_range(swept: RangeSweep, log: bool) -> Distribution:
    """Return the distribution of `range(start,stop,step)`, whose stop does not belong to it."""
    values = sorted(swept.range())
    if not values:
        raise ValueError("the range is empty")
    step = abs(swept.step)
    if all(isinstance(value, int) for value in values):
        return IntDistribution(values[0], values[-1], log=log, step=int(step))
    high = Decimal(str(values[0])) + Decimal(str(step)) * (len(values) - 1)
    return FloatDistribution(values[0], float(high), log=log, step=float(step))
