"""Sweeps by the command line."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from cli_project import Run, files, project, result, run

__all__ = ["project", "run"]

OWN = {"sweep.json", ".sweep"}
"""What a sweep directory holds besides its runs."""


def test_a_sweep(run: Run, project: Path) -> None:
    words = ["-m", "task=mine", "seed=1,2", "task.units=1,-1", "sweep_dir=s"]
    code, out, err = run(*words)
    assert code == 2
    assert err.count("error:") == 2
    jobs = {p.name for p in (project / "s").iterdir()}
    assert jobs == {"0_seed=1_task.units=1", "2_seed=2_task.units=1", *OWN}
    for number, seed in ((0, 1), (2, 2)):
        found = result(project / f"s/{number}_seed={seed}_task.units=1")
        assert (found["status"], found["seed"]) == ("completed", seed)
        # Validation comes first, since whoever chooses by a table should not choose by the test.
        losses = [f"{found['metrics'][f'{stage}/loss']:.4f}" for stage in ("val", "test", "train")]
        assert re.search(rf"^ {number} .*completed +{' +'.join(losses)}", out, re.MULTILINE)
    assert len(re.findall(r"refused \(2\)", out)) == 2
    assert files(project).isdisjoint({"multirun", "outputs", "runs"})

    code, out, err = run("-m", "task=mine", "seed=1,2", "task.units=1", "sweep_dir=t")
    assert code == 0, err
    code, out, err = run(
        "-m", "task=mine", "seed=1,2", "task.units=1", "sweep_dir=t", "trainer.max_epochs=2"
    )
    assert code == 0, err
    assert {p.name for p in (project / "t").iterdir()} == {"0_seed=1", "1_seed=2", *OWN}
    assert result(project / "t/1_seed=2")["global_step"] == 20


def test_jobs_of_a_sweep_give_what_single_runs_give(run: Run, project: Path) -> None:
    precisions = "trainer.precision=mixed_bfloat16,float32"
    assert run("-m", "task=mine", precisions, "sweep_dir=s")[0] == 0
    assert run("task=mine", "run_dir=a")[0] == 0
    second = result(project / "s/1_trainer.precision=float32")
    assert second["metrics"] == result(project / "a")["metrics"]


def test_a_sweep_that_is_interrupted_shows_what_was_not_run(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from framework.cli import sweep_job
    from framework.cli.job import Outcome

    outcomes = iter([Outcome(0), Outcome(130, "interrupted")])
    monkeypatch.setattr(sweep_job, "run", lambda job: next(outcomes))
    code, out, _ = run("-m", "task=mine", "seed=1,2,3", "optimizer=adam,sgd", "sweep_dir=s")
    assert code == 130
    rows = [line.split()[:4] for line in out.splitlines() if re.match(r" \d ", line)]
    assert rows == [
        ["0", "seed=1", "optimizer=adam", "completed"],
        ["1", "seed=1", "optimizer=sgd", "interrupted"],
        ["2", "seed=2", "optimizer=adam", "not"],
        ["3", "seed=2", "optimizer=sgd", "not"],
        ["4", "seed=3", "optimizer=adam", "not"],
        ["5", "seed=3", "optimizer=sgd", "not"],
    ]


def test_a_sweep_without_a_directory_gets_one_of_its_own(run: Run, project: Path) -> None:
    for _ in range(2):
        code, out, err = run("-m", "task=mine", "seed=1,2", "trainer.fast_dev_run=true")
        assert code == 0, err
        assert not (project / "runs").exists()  # A fast run writes nothing, its sweep neither.
    code, out, err = run("-m", "task=mine", "seed=1,2")
    assert code == 0, err
    (sweep,) = (project / "runs").iterdir()
    assert re.fullmatch(r"sweep-\d{8}-\d{6}-[0-9a-f]{6}", sweep.name)
    assert f"Sweep directory: runs/{sweep.name}" in out
