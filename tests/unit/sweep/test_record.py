"""`sweep.json`: jobs keep their names, whoever registers them, and however often."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from framework.errors import UserError
from framework.sweep.claim import claimed, standing_of, standings
from framework.sweep.record import Content, Objective, SweepRecord


def names(record: SweepRecord) -> list[str]:
    return [job.directory for job in record.read().jobs]


def test_a_job_keeps_its_name_and_a_new_one_gets_the_next_number(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.begin(["task=a"], [("seed=2",), ("seed=1",)])
    assert names(record) == ["0_seed=2", "1_seed=1"]
    record.begin(["task=a"], [("seed=1",), ("seed=5",)], (Objective("val/auc", "max"),))
    assert names(record) == ["0_seed=2", "1_seed=1", "2_seed=5"]
    found = record.read()
    assert found.objectives == (Objective("val/auc", "max"),)
    assert [job.round for job in found.jobs] == [1, 2, 2]
    assert record.register(["task=a", "seed=1"]).number == 1
    assert record.register(["seed=9", "task=a"]).directory == "3_seed=9"


def test_one_value_of_a_key_that_varies_is_still_the_same_job(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.begin(["task=a"], [("seed=1", "x=1"), ("seed=2", "x=1")])
    record.begin(["task=a", "x=1"], [("seed=1",), ("seed=3",)])
    assert names(record) == ["0_seed=1_x=1", "1_seed=2_x=1", "2_seed=3_x=1"]
    assert record.register(["x=1", "task=a", "seed=3"]).number == 2


def test_a_key_that_varies_from_now_on_makes_no_job_a_new_one(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.begin(["task=a", "optimizer=sgd"], [("seed=1",), ("seed=2",)])
    planned = [(f"seed={s}", f"optimizer={o}") for s in (1, 2) for o in ("adam", "sgd")]
    record.begin(["task=a"], planned)
    assert [(job.number, job.overrides) for job in record.read().jobs] == [
        (0, ("seed=1", "optimizer=sgd")),
        (1, ("seed=2", "optimizer=sgd")),
        (2, ("seed=1", "optimizer=adam")),
        (3, ("seed=2", "optimizer=adam")),
    ]


def register_some(path: Path, first: int) -> None:
    for seed in range(first, first + 20):
        SweepRecord(path).register(["task=a", f"seed={seed}"])


def test_processes_that_register_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    SweepRecord(tmp_path).begin(["task=a"], [])
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=register_some, args=(tmp_path, 10 * i)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    jobs = SweepRecord(tmp_path).read().jobs
    assert sorted(job.overrides[0] for job in jobs) == sorted(f"seed={s}" for s in range(50))
    assert [job.number for job in jobs] == list(range(50))


def test_a_start_that_came_to_nothing_is_undone(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.begin(["task=a"], [("seed=1",)])
    before = record.read()
    record.begin(["task=a"], [("seed=x",)])
    record.restore(before)
    assert record.read() == before
    record.restore(Content())
    assert record.read() == Content()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"format": 3}', '{"format": 2, "jobs": 3}'],
)
def test_a_record_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UserError, match=r"record cannot be read(.|\n)*sweep\.json"):
        SweepRecord(tmp_path).read()


def test_a_record_cannot_point_outside_its_directory(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.begin(["task=a"], [("seed=1",)])
    found = json.loads((tmp_path / "sweep.json").read_text())
    found["jobs"][0]["directory"] = "../elsewhere"
    (tmp_path / "sweep.json").write_text(json.dumps(found))
    with pytest.raises(UserError, match="a job's directory is a path"):
        record.read()


def test_one_process_runs_a_sweep(tmp_path: Path) -> None:
    with (
        SweepRecord(tmp_path).running(),
        pytest.raises(UserError, match=f"process {os.getpid()}"),
        SweepRecord(tmp_path).running(),
    ):
        pass
    with SweepRecord(tmp_path).running():
        pass


def begin_and_hang(path: Path, ready: str) -> None:
    record = SweepRecord(path)
    with claimed(record, record.register(["seed=1"])) as claim:
        claim.begin()
        Path(ready).touch()
        signal.pause()


def test_how_a_job_stands_is_read_from_the_disk(tmp_path: Path) -> None:
    record = SweepRecord(tmp_path)
    record.begin([], [("seed=1",), ("seed=2",)])
    assert [s.status for s in standings(record)] == ["not run", "not run"]
    ready = tmp_path / "ready"
    worker = multiprocessing.get_context("fork").Process(
        target=begin_and_hang, args=(tmp_path, str(ready))
    )
    worker.start()
    while not ready.exists():
        worker.join(0.01)
        assert worker.is_alive()
    first, _ = record.read().jobs
    assert standing_of(record, first).status == "running"
    with pytest.raises(UserError, match="Another process is at work"), claimed(record, first, 0.1):
        pass
    worker.kill()
    worker.join()
    assert (standing_of(record, first).status, standing_of(record, first).code) == ("killed", 137)
    with claimed(record, first) as claim:
        claim.begin()
        claim.end("failed", 1, {"val/loss": 2.0, "train/loss": float("nan")}, error="boom")
    found = standing_of(record, first)
    assert (found.status, found.code, found.error) == ("failed", 1, "boom")
    assert found.metrics == {"val/loss": 2.0}
    assert not found.finished
