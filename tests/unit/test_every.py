"""`Every`: what it says, and the steps that it means."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import Every, UserError


@pytest.mark.parametrize(
    ("text", "per_epoch", "moments"),
    [
        ("1st", None, [1, 2, 3, 4]),
        ("7st", 5, [7, 14, 21]),
        ("1ep", 5, [5, 10, 15]),
        ("2ep", 5, [10, 20]),
        ("0.5ep", 100, [50, 100, 150, 200]),
        ("0.5ep", 5, [3, 5, 8, 10]),
        ("0.3ep", 10, [3, 6, 9, 12]),
        ("0.1ep", 3, [1, 2, 3, 4]),  # moments closer than a step fall together
        ("1.5ep", 4, [6, 12, 18]),
    ],
)
def test_moments_in_steps_and_epochs(text: str, per_epoch: int | None, moments: list[int]) -> None:
    every, found, step = Every(text), [], 0
    while len(found) < len(moments):
        step = every.next_step(step, per_epoch)
        found.append(step)
    assert found == moments


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("10min", 600), ("2h", 7200), ("0.5s", 0.5)]
)
def test_moments_in_time(text: str, seconds: float) -> None:
    assert Every(text).seconds == seconds
    assert Every(text).next_step(3, 10) is None


@pytest.mark.parametrize(
    "text", ["", "500", "st", "5 epochs", "-1st", "0st", "0ep", "1.5st", "1e3st"]
)
def test_what_says_no_moment_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        Every(text)


@given(
    count=st.fractions(min_value=Fraction(1, 50), max_value=5, max_denominator=100).map(
        lambda f: Fraction(str(round(float(f), 3)))
    ),
    per_epoch=st.integers(1, 60),
    step=st.integers(0, 500),
)
def test_epoch_moments_are_the_whole_steps_at_or_past_each_multiple(
    count: Fraction, per_epoch: int, step: int
) -> None:
    if not count:
        return
    near = int(step / (count * per_epoch))  # the multiples rise, so those about the step suffice
    moments = {math.ceil(k * count * per_epoch) for k in range(max(1, near - 3), near + 4)}
    expected = min(m for m in moments if m > step)
    assert Every(f"{float(count)}ep").next_step(step, per_epoch) == expected
