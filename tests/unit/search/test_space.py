"""The space of a search, as Hydra's grammar spells it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from framework.errors import UserError

pytest.importorskip("optuna", reason='needs pip install ".[search]"')
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from framework.search.space import covering, space_of

DISTRIBUTIONS: dict[str, Any] = {
    "x=interval(0,1)": FloatDistribution(0.0, 1.0),
    "x=tag(log,interval(1e-4,1e-1))": FloatDistribution(1e-4, 1e-1, log=True),
    "x=int(interval(1,8))": IntDistribution(1, 8),
    "x=tag(log,int(interval(1,64)))": IntDistribution(1, 64, log=True),
    "x=range(2,9,3)": IntDistribution(2, 8, step=3),  # 2, 5, 8: Hydra's stop is left out
    "x=range(2,8,3)": IntDistribution(2, 5, step=3),
    "x=range(0.1,0.45,0.1)": FloatDistribution(0.1, 0.4, step=0.1),
    "x=choice(a,b)": CategoricalDistribution(["a", "b"]),
    "x=a,'b c',[1,2]": CategoricalDistribution(["a", "'b c'", "[1,2]"]),
}


@pytest.mark.parametrize("override", DISTRIBUTIONS)
def test_an_override_is_a_distribution(override: str) -> None:
    assert space_of(["task=mine", override]) == {"x": DISTRIBUTIONS[override]}


def test_of_several_overrides_of_one_key_the_last_counts() -> None:
    assert space_of(["x=1,2", "y=interval(0,1)", "x=3"]).keys() == {"y"}


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["task=mine", "seed=1"], "nothing to search"),
        (["x=interval(1,0)"], "low <= high"),
        (["x=range(3,3)"], "the range is empty"),
        (["x=tag(log,choice(1,2))"], "log is for an interval"),
        (["x=tag(log,interval(0,1))"], "low > 0"),
        (["x=glob(*)"], "List them"),
    ],
)
def test_what_is_no_space_is_refused(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        space_of(overrides)


def test_a_few_jobs_cover_every_choice() -> None:
    space = space_of(["optimizer=adam,sgd", "seed=1,2,3", "rate=interval(0.5,1)"])
    jobs = covering(space)
    assert len(jobs) == 3
    assert {each for job in jobs for each in job} == {
        *("optimizer=adam", "optimizer=sgd", "seed=1", "seed=2", "seed=3", "rate=0.5"),
    }
