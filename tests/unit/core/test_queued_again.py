"""A job that is near its time limit is queued again, by one of its tasks and once."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from framework.core.requeue import requeue
from framework.core.signals import Signals, leave, put_off, queue_again

NUMBERS = count(1000)


class Scontrol:
    """A stand-in on the PATH that writes down what it is asked."""

    def __init__(self, folder: Path) -> None:
        self.said, self._file = folder / "said", folder / "scontrol"
        self.answers("exit 0")

    def answers(self, end: str) -> None:
        self._file.write_text(f'#!/bin/sh\necho "$@" >> {self.said}\n{end}\n')
        self._file.chmod(0o755)

    def asked(self) -> list[str]:
        return self.said.read_text().splitlines() if self.said.exists() else []


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scontrol]:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name in [name for name in os.environ if name.startswith("SLURM_")]:
        monkeypatch.delenv(name)
    former = signal.getsignal(signal.SIGTERM)
    yield Scontrol(tmp_path)
    signal.signal(signal.SIGTERM, former)


@pytest.fixture
def job(scontrol: Scontrol, monkeypatch: pytest.MonkeyPatch) -> str:
    number = str(next(NUMBERS))
    monkeypatch.setenv("SLURM_JOB_ID", number)
    return number


def test_the_first_task_asks_and_outlives_the_sigterm_that_follows(
    scontrol: Scontrol, job: str
) -> None:
    scontrol.answers(f"kill -TERM $$ {os.getpid()}; exit 0")  # as SLURM does before it answers
    requeue()
    assert scontrol.asked() == [f"requeue {job}"]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_other_tasks_and_processes_outside_of_slurm_ask_nothing(scontrol: Scontrol) -> None:
    requeue({"SLURM_JOB_ID": str(next(NUMBERS)), "SLURM_PROCID": "1"})
    requeue({})
    assert scontrol.asked() == []


def test_one_job_of_an_array_does_not_requeue_the_others(scontrol: Scontrol) -> None:
    number = str(next(NUMBERS))
    array = {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": "3"}
    requeue({"SLURM_JOB_ID": number, "SLURM_PROCID": "0", **array})
    assert scontrol.asked() == [f"requeue {number}_3"]


def test_a_refusal_is_told_and_sigterm_counts_again(
    scontrol: Scontrol, job: str, caplog: pytest.LogCaptureFixture
) -> None:
    scontrol.answers("echo 'Requested operation is presently disabled' >&2; exit 1")
    former = signal.getsignal(signal.SIGTERM)
    with caplog.at_level(logging.WARNING, "framework"):
        requeue()
    assert "presently disabled" in caplog.text
    assert "submit it again" in caplog.text
    assert signal.getsignal(signal.SIGTERM) == former


def test_a_missing_scontrol_is_told(
    job: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with caplog.at_level(logging.WARNING, "framework"):
        requeue()
    assert "No such file" in caplog.text


@pytest.mark.parametrize(
    ("number", "code", "asks"),
    [
        (signal.SIGUSR1, 138, True),
        (signal.SIGUSR2, 140, True),
        (signal.SIGTERM, 143, False),  # a cancelled job must not come back
    ],
)
@pytest.mark.parametrize("deferred", [True, False])
def test_a_signal_ends_the_program_and_only_the_time_limit_queues_it_again(
    scontrol: Scontrol, job: str, number: int, code: int, *, asks: bool, deferred: bool
) -> None:
    signals = Signals()
    with pytest.raises(SystemExit) as left:  # noqa: PT012
        with signals.noted():
            if deferred:
                with signals.deferred():
                    os.kill(os.getpid(), number)
            else:
                os.kill(os.getpid(), number)
                pytest.fail("the signal did not end it")
            assert scontrol.asked() == []  # not before the run has saved
        signals.raise_received()
    assert left.value.code == code
    assert scontrol.asked() == [f"requeue {job}"] * asks


def test_a_handler_of_somebody_else_is_left_to_queue_the_job_again(
    scontrol: Scontrol, job: str
) -> None:
    called: list[int] = []
    former = signal.signal(signal.SIGUSR2, lambda number, frame: called.append(number))
    try:
        signals = Signals()
        with signals.noted(), signals.deferred():
            os.kill(os.getpid(), signal.SIGUSR2)
            assert called == []
        with pytest.raises(SystemExit) as left:
            signals.raise_received()
        assert (left.value.code, called, scontrol.asked()) == (140, [signal.SIGUSR2], [])
        # That of the command line does what there is to do without it.
        signal.signal(signal.SIGUSR2, leave)
        with pytest.raises(SystemExit):
            signals.raise_received()
        assert scontrol.asked() == [f"requeue {job}"]
    finally:
        signal.signal(signal.SIGUSR2, former)


def test_a_job_of_a_sweep_leaves_it_to_what_comes_after(scontrol: Scontrol, job: str) -> None:
    signals = Signals()
    with put_off():
        with signals.noted(), signals.deferred():
            os.kill(os.getpid(), signal.SIGUSR1)
        with pytest.raises(SystemExit) as left:
            signals.raise_received()
        assert scontrol.asked() == []
    for code in (0, 1, 130, 143):
        queue_again(code)
    assert scontrol.asked() == []
    queue_again(left.value.code)
    assert scontrol.asked() == [f"requeue {job}"]
