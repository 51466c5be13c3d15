"""Searches from the command line: killed, shared by processes, with any launcher, refused."""

# ruff: noqa: E402 - what needs Optuna is imported where it is known to be there

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_project import Run, files, project, result, run
from places import ROOT
from test_sweep_processes import rows

optuna = pytest.importorskip("optuna", reason='needs pip install ".[search]"')

from framework.runs.compare_command import main as compare

__all__ = ["project", "run"]

RATE = "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))"
WORDS = ("-m", "task=mine", "search=optuna", "objective=val/loss", "trainer.engine=graph")
PRUNED = ("search.pruner=median", "search.pruner_options={n_startup_trials: 1}")
ENDED = {"COMPLETE": "completed", "PRUNED": "pruned"}


def trials(sweep: Path) -> list[Any]:
    try:
        url = f"sqlite:///{sweep / 'study.db'}"
        found: list[Any] = optuna.load_study(study_name=sweep.name, storage=url).trials
    except Exception:  # it is not there yet
        return []
    return found


def ended(sweep: Path) -> int:
    return sum(trial.state.is_finished() for trial in trials(sweep))


def start(project: Path, *words: str) -> subprocess.Popen[bytes]:
    with open(project / "out", "ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "framework", *WORDS, RATE, *PRUNED, *words],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def test_killed_and_shared_by_processes_each_trial_is_run_once(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("search.n_trials=6", "trainer.max_epochs=2", "sweep_dir=s")
    sweep, until = project / "s", time.monotonic() + 120
    parent = start(project, *words, "jobs=2")
    while ended(sweep) < 2 and parent.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    assert 2 <= ended(sweep) < 6
    both = [start(project, *words) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0], (project / "out").read_text()

    states = [trial.state.name for trial in trials(sweep)]
    assert len(states) == 6
    assert {*states} == {"COMPLETE", "PRUNED"}
    directories = [trial.user_attrs["run_dir"] for trial in trials(sweep)]
    assert sorted(directories) == sorted(p.name for p in sweep.iterdir() if p.name[0].isdigit())
    for trial in trials(sweep):
        found = result(sweep / trial.user_attrs["run_dir"])
        assert found["status"] == ENDED[trial.state.name]
        assert found["metrics"]["val/loss"] == trial.value
        assert ("test/loss" in found["metrics"]) == (found["status"] == "completed")
    compare([str(sweep)])
    assert capsys.readouterr().out.count(" pruned ") == states.count("PRUNED")


def test_a_finished_search_runs_nothing_and_a_longer_one_the_rest(run: Run, project: Path) -> None:
    words = (*WORDS, "optimizer=adam,sgd", "sweep_dir=s", "trainer.max_steps=2")
    code, out, err = run(*words, "search.n_trials=1")
    assert (code, len(rows(out))) == (0, 1), err
    (first,) = project.glob("s/*/result.json")
    before = first.stat()
    code, out, err = run(*words, "search.n_trials=1", plain=True)
    assert (code, out.count("starting TensorFlow"), len(rows(out))) == (0, 0, 1), err
    code, out, err = run(*words, "search.n_trials=5")
    assert (code, len(rows(out))) == (0, 2), err  # there are no more than two jobs to run
    assert "5 of 5 trials have ended, 5 complete" in out
    assert first.stat() == before


def test_a_file_can_ask_for_the_search(run: Run, project: Path) -> None:
    (project / "conf/experiment").mkdir()
    (project / "conf/experiment/tuned.yaml").write_text(
        "# @package _global_\ndefaults: [{override /search: optuna}]\n"
        "objective: val/loss\nsearch: {n_trials: 2}\ntrainer: {max_steps: 2}\n"
    )
    code, out, err = run("-m", "task=mine", "experiment=tuned", RATE, "sweep_dir=s")
    assert (code, len(rows(out))) == (0, 2), err
    assert "2 of 2 trials have ended" in out
    rates = [path.name.partition("=")[2] for path in project.glob("s/*_*")]
    assert all(len(rate) < 12 for rate in rates), rates
    (trial, *_) = sorted(project.glob("s/0_*"))
    code, _, err = run(f"run_dir={trial}", "mode=test")
    assert code == 0, err
    task = project / "conf/task/searching.yaml"
    text = (project / "conf/experiment/tuned.yaml").read_text()
    task.write_text(f"{text}task: {{_target_: cliproj.mine.Mine}}\n")
    for words in (("task=searching",), ("-m", "task=mine", "experiment=tuned,none")):
        code, _, err = run(*words)
        assert (code, "nothing searches" in err, "-m and search=optuna" in err) == (2, True, True)
    code, out, err = run("-m", "task=searching", "seed=1,2")
    assert (code, "2 of 2 trials have ended" in out) == (0, True), err


def test_several_objectives_have_a_front(run: Run, project: Path) -> None:
    words = (*WORDS[:3], "objective=[val/loss,test/loss]", "seed=1,2", "trainer.max_steps=2")
    code, out, err = run(*words, "search.sampler=grid", "sweep_dir=s", "search.storage=s.log")
    assert code == 0, err
    values = [result(path.parent)["metrics"] for path in project.glob("s/*/result.json")]
    points = {(each["val/loss"], each["test/loss"]) for each in values}
    front = [p for p in points if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)]
    assert out.count("Pareto front: #") == len(front)


REFUSED = {
    "search": (["search=optunna", RATE], ["no search 'optunna'", "none, optuna"]),
    "sampler": ([RATE, "search.sampler=tep"], ["'tep'", "tpe, random, grid, cmaes"]),
    "pruner": ([RATE, "search.pruner=med"], ["'med'", "hyperband, successive_halving"]),
    "option": ([RATE, "search.n_trial=3"], ["Did you mean 'search.n_trials'?"]),
    "type": ([RATE, "search.n_trials=many"], ["'many' is not a whole number"]),
    "argument": ([RATE, "search.sampler_options={x: 1}"], ["no argument 'x'", "n_startup_trials"]),
    "storage": ([RATE, "search.storage=sqlite:////no/x.db"], ["cannot be opened", "unable to"]),
    "nothing": (["seed=1"], ["nothing to search"]),
    "choice": (["optimizer=adam,sgdd"], ["no optimizer 'sgdd'", "Did you mean 'sgd'"]),
    "key": (["optimizer.learning_rat=interval(0,1)"], ["Did you mean 'optimizer.learning_rate'?"]),
    "sweeper": ([RATE, "hydra/sweeper=basic"], ["without another sweeper"]),
    "directions": ([RATE, "direction=[min,max]"], ["1 objectives and 2 directions"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_mistake_is_named_and_leaves_nothing(run: Run, project: Path, case: str) -> None:
    words, said = REFUSED[case]
    before = files(project)
    code, out, err = run(*WORDS, *words, "sweep_dir=runs/s")
    assert code == 2
    assert all(each in err for each in said), err
    assert err.startswith("error: ")
    assert err.count("\n") < 5
    assert "Traceback" not in out + err
    assert files(project) == before


def test_a_metric_that_no_run_measures_ends_the_search(run: Run, project: Path) -> None:
    words = ("-m", "task=mine", "search=optuna", "direction=min", "seed=1,2", "sweep_dir=s")
    code, out, err = run(*words, "objective=val/los", "trainer.max_steps=2", "jobs=1")
    assert code == 2
    assert err.count("No run measures 'val/los'") == 1
    assert "Did you mean 'val/loss'" in err
    assert len(rows(out)) == 1
    # Corrected, the search goes on with what it has.
    code, out, err = run(*words, "objective=val/loss", "trainer.max_steps=2", "search.n_trials=1")
    assert (code, len(rows(out))) == (0, 1), err
    code, out, err = run(*words[:4], "objective=val/loss", "seed=1,2,3", "sweep_dir=s")
    assert code == 2
    assert "there seed 1,2; here seed 1,2,3" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=mine", "search=optuna"], "Add -m"),
        (["-m", "task=mine", RATE], "search=optuna"),
        (["-m", "task=mine", "seed=1,2", "sweep.jobs=4"], "Write jobs=4"),
    ],
)
def test_what_is_no_search_says_how_to_make_one(run: Run, words: list[str], said: str) -> None:
    code, _, err = run(*words)
    assert code == 2
    assert said in err
