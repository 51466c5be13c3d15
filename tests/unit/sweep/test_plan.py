"""What jobs vary: keys that do not depend on spelling, and the jobs that are planned."""

from __future__ import annotations

import pytest

from framework.sweep.plan import fixed_overrides, job_key, keys_of, planned_jobs, varied_by


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (["seed=1", "task=a"], ["task=a", "seed=1"]),
        (["task.x=1"], ["+task.x=1"]),
        (["optimizer.learning_rate=1e-3"], ["optimizer.learning_rate=0.001"]),
        (["task.name=a"], ["task.name='a'"]),
        (["task.name=[a,b]"], ["task.name=['a',\"b\"]"]),
        (["seed=2", "seed=1"], ["seed=1"]),
    ],
)
def test_a_key_does_not_depend_on_order_or_spelling(one: list[str], other: list[str]) -> None:
    assert job_key(one) == job_key(other)


def test_a_key_tells_different_jobs_apart() -> None:
    jobs = [[], ["seed=1"], ["seed=2"], ["seed=1", "task=a"], ["task.x='1'"], ["task.x=1"]]
    jobs += [["task.x=[1,2]"], ["task.x=[2,1]"], ["task.x='${oc.env:A}'"], ["task.x=null"]]
    assert len({job_key(job) for job in jobs}) == len(jobs)


def test_the_planned_jobs_are_those_of_hydras_own_sweeper() -> None:
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    given = ["task=a,b", "seed=range(3)", "x=1", "y=choice(u,v)", "hydra.verbose=true"]
    parsed = OverridesParser.create().parse_overrides(given)
    (batch,) = BasicSweeper.split_arguments(parsed, None)
    expected = [tuple(o for o in job if o.split("=")[0] in ("task", "seed", "y")) for job in batch]
    assert planned_jobs(given) == expected
    assert len(expected) == 12
    assert fixed_overrides(given) == ["x=1"]
    assert varied_by(batch[0], ["x=1"]) == expected[0]
    assert keys_of(expected[0]) == {"task", "seed", "y"}
