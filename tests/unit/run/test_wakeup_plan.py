"""Triggers and the plan of wake-ups, with a clock that the test turns."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import Every, UserError
from framework.loop import span_length
from framework.run.wakeup_plan import Trigger, WakeupPlan


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_fraction_of_an_unknown_epoch_is_refused_and_a_whole_one_waits_for_its_end() -> None:
    assert Every("2ep").next_step(7, None) is None
    with pytest.raises(UserError, match="length of an epoch"):
        Every("0.5ep").next_step(7, None)
    timer = Trigger(Every("2ep"))
    due = [timer.due(9, None, epoch_ends=True, epochs=n) for n in (1, 2, 3, 4)]
    assert due == [False, True, False, True]
    assert not timer.due(9, None, epoch_ends=False, epochs=2)


def test_a_timer_in_time_comes_once_an_interval() -> None:
    clock = Clock()
    timer = Trigger(Every("10s"), clock)
    came = []
    for second in range(1, 36):
        clock.now += 1
        if timer.due(second, None, epoch_ends=False):
            came.append(second)
    assert came == [10, 20, 30]
    assert not Trigger(None).due(5, 5, epoch_ends=True, epochs=1)


INTERVALS = st.one_of(
    st.integers(1, 40).map("{}st".format),
    st.integers(1, 3).map("{}ep".format),
    st.sampled_from(["0.5ep", "0.25ep", "0.1ep", "1.5ep", "0.2s", "3s", "1min"]),
)


@given(
    intervals=st.lists(INTERVALS, max_size=4),
    per_epoch=st.integers(1, 50),
    every_batch=st.booleans(),
    speeds=st.lists(st.floats(0.5, 1e5), min_size=1, max_size=5),
)
def test_the_schedule_always_advances_and_passes_nobodys_moment(
    intervals: list[str], per_epoch: int, every_batch: bool, speeds: list[float]
) -> None:
    clock = Clock()
    timers = [Trigger(Every(text), clock) for text in intervals]
    schedule = WakeupPlan(timers, every_batch=every_batch)
    moments = {
        text: {math.ceil(k * Every(text).count * per_epoch) for k in range(1, 2000)}
        if Every(text).unit == "ep"
        else set(range(int(Every(text).count), 2000, int(Every(text).count)))
        for text in intervals
        if Every(text).seconds is None
    }
    step, end, stretch = 0, 3 * per_epoch, 0
    met: dict[str, set[int]] = {text: set() for text in moments}
    while step < end:
        epoch_end = (step // per_epoch + 1) * per_epoch
        stop = schedule.next_stop(step, epoch_end, per_epoch)
        assert step < stop <= epoch_end
        if every_batch:
            assert stop == step + 1
        for text, steps in moments.items():
            assert not steps & set(range(step + 1, stop)), f"{text} was passed"
        seconds = (stop - step) / speeds[stretch % len(speeds)]
        clock.now += seconds
        schedule.measured(stop - step, seconds)
        step, stretch = stop, stretch + 1
        for timer, text in zip(timers, intervals, strict=True):
            ends = step % per_epoch == 0
            due = timer.due(step, per_epoch, epoch_ends=ends, epochs=step // per_epoch)
            if text in met and due:
                met[text].add(step)
    for text, steps in moments.items():
        assert met[text] == {s for s in steps if s <= end}


@pytest.mark.parametrize("speed", [3, 100, 5_000, 60_000])
def test_with_nobody_asking_the_host_is_woken_about_once_a_second(speed: float) -> None:
    schedule, step, stretches, longest = WakeupPlan([]), 0, 0, 0.0
    while step < 60 * speed:
        stop = schedule.next_stop(step, 60 * speed, None)
        seconds = (stop - step) / speed
        longest = max(longest, seconds)
        schedule.measured(stop - step, seconds)
        step, stretches = stop, stretches + 1
    growing = math.ceil(math.log(max(speed, 8), span_length.GROWTH)) + 1
    assert 60 <= stretches <= 60 + growing
    assert longest <= span_length.LONGEST * 1.001


def test_a_slow_step_and_a_short_interval_shorten_the_stretch() -> None:
    schedule = WakeupPlan([Trigger(Every("0.2s"))])
    schedule.measured(1, 0.01)
    schedule.measured(8, 0.08)
    assert schedule.next_stop(9, None, None) == 9 + 20  # 0.2 s at 100 steps a second
    schedule.measured(1, 5.0)
    assert schedule.next_stop(29, None, None) == 30
