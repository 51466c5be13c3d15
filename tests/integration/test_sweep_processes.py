"""Sweeps whose jobs run in processes of their own: the same results, and no harm by kills."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path
from types import ModuleType

import pytest
from cli_project import Run, project, result, run

from benchmarks.sweep.disturbed import claims, disturb, start, wait_for, working
from framework.sweep.record import SweepRecord

__all__ = ["project", "run"]

WORDS = ("-m", "task=mine", "trainer.engine=graph", "trainer.max_steps=8")


def directories(sweep: Path) -> list[str]:
    return sorted(path.name for path in sweep.iterdir() if path.is_dir() and path.name[0] != ".")


def weights(run_dir: Path) -> bytes:
    (found,) = run_dir.glob("checkpoints/step-*/arrays.npz")
    return found.read_bytes()


def rows(out: str) -> list[str]:
    """The table's rows."""
    return [" ".join(line.split()) for line in out.splitlines() if re.match(r" \d+ ", line)]


def test_jobs_side_by_side_give_what_jobs_in_turn_give(run: Run, project: Path) -> None:
    jobs = ("seed=1,2", "task.units=1,-1")
    code, out, err = run(*WORDS, *jobs, "sweep_dir=a")
    assert code == 2, err
    side_code, side_out, side_err = run(*WORDS, *jobs, "sweep_dir=b", "jobs=2")
    assert side_code == code
    assert rows(side_out) == rows(out)
    assert len(rows(out)) == 4
    assert directories(project / "b") == directories(project / "a")
    for name in directories(project / "a"):
        assert result(project / "b" / name)["metrics"] == result(project / "a" / name)["metrics"]
        assert weights(project / "b" / name) == weights(project / "a" / name)
    # What a job prints carries its number, errors as well.
    assert re.search(r"^#0  test/loss ", side_out, re.MULTILINE)
    assert len(re.findall(r"^#[13]  error: ", side_err, re.MULTILINE)) == 2

    # One seed more trains one job more; whatever is finished stays as it is.
    before = {
        name: os.stat(project / "b" / name / "result.json") for name in directories(project / "b")
    }
    code, out, err = run(*WORDS, "seed=3,1,2", "task.units=1", "sweep_dir=b", "jobs=2")
    assert code == 0, err
    assert out.count("not run again") == 2
    assert directories(project / "b") == [*sorted(before), "4_seed=3_task.units=1"]
    for name, stat in before.items():
        assert os.stat(project / "b" / name / "result.json").st_mtime_ns == stat.st_mtime_ns
    assert len(rows(out)) == 5  # with those that this command did not ask for


def test_what_only_the_parent_can_import_is_named(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(project))
    from cliproj import mine  # type: ignore[import-not-found]

    module = ModuleType("onlyhere")
    module.Mine = mine.Mine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onlyhere", module)
    (project / "conf/task/here.yaml").write_text("_target_: onlyhere.Mine\n")
    code, out, err = run("-m", "task=here", "seed=1,2", "sweep_dir=s", "jobs=2")
    assert code == 2
    assert len(re.findall(r"^#[01]  error: .*onlyhere", err, re.MULTILINE)) == 2
    assert "Traceback" not in out + err


def test_a_signal_stops_all_jobs_and_the_same_command_continues(tmp_path: Path) -> None:
    words, sweep = ["-m", "task=short", "seed=0,1", "jobs=2"], tmp_path / "s"
    out = Path(f"{sweep}.out")

    def at_work(said: str) -> bool:
        running = [each for each in claims(sweep).values() if each["status"] == "running"]
        return len(running) == 2 and said in out.read_text() and bool(working(sweep))

    for sent, said in ((signal.SIGINT, ""), (signal.SIGTERM, "resuming from ")):
        parent = start(words, sweep, SHORT_PAUSE="2")
        wait_for(lambda said=said: at_work(said), parent)  # type: ignore[misc]
        parent.send_signal(sent)
        assert parent.wait(300) == 128 + sent
        for name, each in claims(sweep).items():
            assert (each["status"], each["code"]) == ("interrupted", 128 + sent), name
            with pytest.raises(ProcessLookupError):
                os.kill(each["process"], 0)
    text = out.read_text()
    assert "Traceback" not in text
    assert "To continue: python -m framework -m task=short" in text
    assert re.search(r"^#[01]  resuming from ", text, re.MULTILINE)


def test_kills_of_a_job_and_of_the_parent_spoil_nothing(tmp_path: Path) -> None:
    ending = disturb(4, tmp_path, parent_kills=1)
    assert ending.statuses == {"completed": 3, "failed": 1}
    assert ending.code == 1
    assert ending.different == {}
    assert ending.folders == 4


def test_a_sweep_is_run_by_one_process(run: Run, project: Path) -> None:
    with SweepRecord(project / "s").running():
        code, _, err = run("-m", "task=mine", "seed=1,2", "sweep_dir=s")
    assert code == 2
    assert f"process {os.getpid()}" in err
    assert "sweep_dir=" in err
