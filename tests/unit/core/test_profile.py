"""Where the time went: parts that add up."""

from __future__ import annotations

import contextlib

from framework.core.profile import PARTS, Profile


def test_a_part_inside_of_another_counts_for_itself_only() -> None:
    now = [0.0]

    def spend(seconds: float) -> None:
        now[0] += seconds

    profile = Profile(clock=lambda: now[0])
    spend(1)
    with profile("callbacks"):
        spend(2)
        with profile("saving"):
            spend(4)
        spend(8)
    with contextlib.suppress(ZeroDivisionError), profile("steps"):
        spend(16)
        raise ZeroDivisionError
    spend(32)
    expected = {"other": 33, "callbacks": 10, "saving": 4, "steps": 16}
    assert profile.seconds() == dict.fromkeys(PARTS, 0.0) | expected
    assert profile.share("steps") == 16 / 63
    assert [line.split()[:2] for line in profile.table().splitlines()[2:4]] == [
        ["other", "33.00"],
        ["steps", "16.00"],
    ]
