"""What an outbox sends, when, and how often, to a tracker that fails in every way."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from fake_tracker import Client, FakeTracker
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.loggers.journal import Memory
from framework.loggers.outbox import Outbox


def outbox(
    directory: Path, tracker: FakeTracker, step: int | None = 0, after: Outbox | None = None
) -> Outbox:
    found = Outbox(directory, "Fake", tracker.client, after=after, pause=0.005)
    found.open(step)
    return found


def log(box: Outbox, step: int, value: float | None = None, name: str = "train/loss") -> None:
    box.add("metrics", {"values": {name: float(step if value is None else value)}}, step)


def eventually(holds: Callable[[], bool], seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.002)
    return holds()


def test_values_wait_for_a_checkpoint_and_the_rest_does_not(tmp_path: Path) -> None:
    tracker = FakeTracker()
    box = outbox(tmp_path, tracker)
    for step in (10, 20, 30):
        log(box, step)
    box.add("tags", {"a": "b"})
    assert eventually(lambda: bool(tracker.others))
    assert tracker.points == []
    box.release(20)
    assert eventually(lambda: len(tracker.points) == 2)
    assert box.close(10)
    assert tracker.steps("train/loss") == {10: 10.0, 20: 20.0}


def test_a_continued_run_drops_what_it_measures_again(tmp_path: Path) -> None:
    tracker = FakeTracker()
    box = outbox(tmp_path, tracker)
    for step in (10, 20, 30):
        log(box, step, value=-1.0)
    box.release(10)
    box.close(10)
    box = outbox(tmp_path, tracker, step=10)
    log(box, 20, value=2.0)
    box.release(None)
    assert box.close(10)
    assert tracker.steps("train/loss") == {10: -1.0, 20: 2.0}


def test_an_evaluation_sends_its_own_values_and_holds_the_others(tmp_path: Path) -> None:
    tracker = FakeTracker()
    box = outbox(tmp_path, tracker)
    log(box, 10)
    log(box, 20)
    box.release(10)
    box.close(10)  # the process was killed at step 20
    box = outbox(tmp_path, tracker, step=None)
    log(box, 10, name="test/loss")
    box.release(None)
    assert box.close(10)
    assert tracker.points == [("train/loss", 10, 10.0), ("test/loss", 10, 10.0)]
    box = outbox(tmp_path, tracker, step=20)  # there was a checkpoint after all
    box.close(10)
    assert tracker.steps("train/loss") == {10: 10.0, 20: 20.0}


def test_down_from_start_to_end_is_one_warning_and_nothing_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = FakeTracker()
    tracker.down = True
    box = outbox(tmp_path, tracker)
    for step in range(1, 51):
        log(box, step)
        box.release(step)
    assert eventually(lambda: tracker.attempts > 2)
    began = time.monotonic()
    assert not box.close(5)
    assert time.monotonic() - began < 2  # it does not insist
    warnings = [each.message for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert "Fake cannot be reached: connection refused" in warnings[0]
    assert str(tmp_path) in warnings[0]
    tracker.down = False
    assert outbox(tmp_path, tracker, step=50).close(10)
    assert tracker.steps("train/loss") == {step: float(step) for step in range(1, 51)}


def test_a_tracker_that_comes_back_gets_everything_in_the_same_run(tmp_path: Path) -> None:
    tracker = FakeTracker()
    box = outbox(tmp_path, tracker)
    for step in range(1, 1001):  # several batches
        tracker.down = 300 < step < 600
        log(box, step)
        box.release(step)
    assert eventually(lambda: len(tracker.points) == 1000)
    assert box.close(10)
    assert tracker.steps("train/loss") == {step: float(step) for step in range(1, 1001)}


def test_the_end_waits_for_a_tracker_that_has_just_gone_but_not_for_long(tmp_path: Path) -> None:
    tracker = FakeTracker()
    box = outbox(tmp_path, tracker, step=None)
    log(box, 10)
    assert eventually(lambda: len(tracker.points) == 1)
    tracker.down = True
    log(box, 20)
    back = threading.Timer(0.3, lambda: setattr(tracker, "down", False))
    back.start()
    assert box.close(10)
    assert tracker.steps("train/loss") == {10: 10.0, 20: 20.0}
    box = outbox(tmp_path, tracker, step=None)
    log(box, 30)
    assert eventually(lambda: len(tracker.points) == 3)
    tracker.down = True
    log(box, 40)
    began = time.monotonic()
    assert not box.close(0.3)
    assert 0.3 <= time.monotonic() - began < 2


def test_a_tracker_that_hangs_delays_nothing(tmp_path: Path) -> None:
    tracker = FakeTracker()
    tracker.answers.clear()
    box = outbox(tmp_path, tracker, step=None)
    began = time.monotonic()
    for step in range(1, 201):
        log(box, step)
    assert time.monotonic() - began < 1
    began = time.monotonic()
    assert not box.close(0.2)
    assert time.monotonic() - began < 1
    after = outbox(tmp_path, tracker, step=200, after=box)  # the next stage of the process
    log(after, 201)
    after.release(201)
    tracker.answers.set()  # the first request is carried out only now
    assert after.close(10)
    assert tracker.steps("train/loss") == {step: float(step) for step in range(1, 202)}


def test_a_lost_answer_sends_nothing_twice(tmp_path: Path) -> None:
    tracker = FakeTracker()
    tracker.lose = 2
    box = outbox(tmp_path, tracker)
    for step in range(1, 11):
        log(box, step)
    box.release(10)
    assert eventually(lambda: len(tracker.points) == 10)
    assert box.close(10)
    assert tracker.steps("train/loss") == {step: float(step) for step in range(1, 11)}


def test_what_is_refused_for_good_holds_up_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = FakeTracker()
    tracker.deny, tracker.down = "file", True
    box = outbox(tmp_path, tracker)
    box.add("tags", {"a": 1})
    box.add("file", {"path": "x"})
    log(box, 0)
    tracker.down = False
    assert box.close(10)
    assert tracker.others == [("tags", {"a": 1})]
    assert tracker.steps("train/loss") == {0: 0.0}
    assert any("Fake refuses file: no file here" in each.message for each in caplog.records)


def test_a_repeated_test_counts_once_if_it_is_the_same(tmp_path: Path) -> None:
    tracker = FakeTracker()
    for value in (0.5, 0.5, 0.75):
        box = outbox(tmp_path, tracker, step=None)
        box.forget("test")
        log(box, 40, value=value, name="test/accuracy")
        log(box, 40, value=value, name="val/accuracy")  # not forgotten: the first stays
        assert box.close(10)
    assert [point for point in tracker.points if point[0] == "test/accuracy"] == [
        ("test/accuracy", 40, 0.5),
        ("test/accuracy", 40, 0.75),
    ]
    assert tracker.steps("val/accuracy") == {40: 0.5}


def test_a_forgotten_value_that_was_not_sent_is_never_sent(tmp_path: Path) -> None:
    tracker = FakeTracker()
    tracker.down = True
    box = outbox(tmp_path, tracker, step=None)
    log(box, 40, value=0.5, name="test/accuracy")
    box.close(5)
    tracker.down = False
    box = Outbox(tmp_path, "Fake", tracker.client, pause=0.005)
    tracker.down = True  # until the old value is dropped
    box.open(None)
    box.forget("test")
    tracker.down = False
    log(box, 40, value=0.75, name="test/accuracy")
    assert box.close(10)
    assert tracker.steps("test/accuracy")[40] == 0.75


def test_an_extended_run_does_not_send_its_former_end_again(tmp_path: Path) -> None:
    tracker = FakeTracker()
    box = outbox(tmp_path, tracker)
    log(box, 40)
    box.release(40)
    box.close(10)
    box = outbox(tmp_path, tracker, step=39)  # it measures step 40 again
    log(box, 40)
    log(box, 50)
    box.release(50)
    assert box.close(10)
    assert tracker.steps("train/loss") == {40: 40.0, 50: 50.0}


def test_a_run_begun_anew_is_another_run_of_the_tracker(tmp_path: Path) -> None:
    tracker = FakeTracker()
    box = outbox(tmp_path, tracker)
    box.memory.update(run_id="first")
    log(box, 10)
    box.release(10)
    box.close(10)
    box = outbox(tmp_path, tracker, step=0)
    assert "run_id" not in box.memory.values
    log(box, 10, value=-1.0)
    box.release(10)
    assert box.close(10)
    assert [value for _, _, value in tracker.points] == [10.0, -1.0]


def test_a_line_torn_by_a_kill_is_dropped(tmp_path: Path) -> None:
    tracker = FakeTracker()
    tracker.down = True
    box = outbox(tmp_path, tracker, step=None)
    log(box, 10)
    log(box, 20)
    box.close(1)
    path = tmp_path / "outbox.jsonl"
    path.write_bytes(path.read_bytes()[:-5])
    tracker.down = False
    assert outbox(tmp_path, tracker, step=None).close(10)
    assert tracker.steps("train/loss") == {10: 10.0}


OPERATIONS = st.lists(
    st.sampled_from(["log", "log", "save", "kill", "down", "up", "lose", "wait"]), max_size=40
)


@settings(max_examples=40, deadline=None)
@given(operations=OPERATIONS)
def test_however_it_is_killed_each_step_arrives_once(
    tmp_path_factory: pytest.TempPathFactory, operations: list[str]
) -> None:
    tracker, clients = FakeTracker(), list[Client]()
    place, numbers = tmp_path_factory.mktemp("killed"), count()

    def connect(memory: Memory) -> Client:
        clients.append(tracker.client(memory))
        return clients[-1]

    def start(directory: Path, step: int) -> Outbox:
        box = Outbox(directory, "Fake", connect, pause=0.001)
        box.open(step)
        return box

    box = start(place / "0", 0)
    step = saved = 0
    measured: dict[int, float] = {}
    for operation in operations:
        if operation == "log":
            step += 10
            measured[step] = float(next(numbers))
            log(box, step, measured[step])
        elif operation == "save":
            saved = step
            box.release(saved)
        elif operation == "kill":
            with tracker.lock:  # what is on the disk now is what a killed process leaves
                for client in clients:
                    client.dead = True
                copy = place / f"{next(numbers)}-again"
                shutil.copytree(box.memory.path.parent, copy)
            box.close(0)
            step, measured = saved, {s: v for s, v in measured.items() if s <= saved}
            box = start(copy, saved)
        elif operation == "lose":
            tracker.lose = 1
        elif operation == "wait":
            time.sleep(0.003)
        else:
            tracker.down = operation == "down"
    tracker.down, tracker.lose = False, 0
    box.release(None)
    if not box.close(10):
        box = start(box.memory.path.parent, step)
        assert box.close(10)
    assert tracker.steps("train/loss") == measured
