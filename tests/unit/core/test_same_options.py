"""What is the same configuration, and what is not."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from framework.cli.run_dir import differences, to_yaml
from framework.config import TrainerConfig
from framework.core.same_option import same

KEYS = st.from_regex(r"[a-z_]{1,8}", fullmatch=True)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(codec="utf-8", exclude_characters="$\\")).filter(lambda t: t != "???")
)
VALUES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3)
)


TRAINER = vars(TrainerConfig())


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_a_configuration_is_the_same_as_what_was_written(config: dict[str, Any]) -> None:
    whole = {"task": config, "trainer": TRAINER}
    written = OmegaConf.to_container(OmegaConf.create(to_yaml(whole)))
    assert differences(written, whole) == []  # type: ignore[arg-type]
    assert same(written, whole)


def with_x(value: Any) -> dict[str, Any]:
    return {"task": {"x": [value]}, "trainer": TRAINER}


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (math.nan, float("nan"), True),
        (math.nan, 0.0, False),
        (math.nan, None, False),
        (math.nan, "nan", False),
        (math.inf, math.inf, True),
        (math.inf, -math.inf, False),
        (-0.0, 0.0, True),
        (1, 1.0, True),
        ([1, math.nan], (1.0, math.nan), True),
        ([1], [1, 2], False),
        ({"a": [math.nan]}, {"a": (math.nan,)}, True),
        ({"a": None}, {}, False),
        ("1", 1, False),
    ],
)
def test_what_is_the_same(one: Any, other: Any, equal: bool) -> None:
    assert same(one, other) is equal
    assert same(other, one) is equal
    assert bool(differences(with_x(one), with_x(other))) is not equal


def test_one_batch_is_not_all_of_them() -> None:
    def with_limit(value: Any) -> dict[str, Any]:
        return {"trainer": {**TRAINER, "limit_train_batches": value}}

    assert differences(with_limit(1), with_limit(1.0)) == [("trainer.limit_train_batches", 1, 1.0)]
    assert differences(with_limit(1.0), with_limit(1.0)) == []
