"""Sweeps by Hydra's launchers and by files, ranked and refused."""

from __future__ import annotations

import os
import re
from importlib import import_module
from pathlib import Path

import pytest
from cli_project import Run, files, project, result, run
from places import ROOT
from test_sweep_processes import directories, rows, weights

__all__ = ["project", "run"]

WORDS = ("-m", "task=mine", "trainer.engine=graph", "trainer.max_steps=8", "seed=1,2")
LAUNCHERS = {
    "joblib": ["hydra.launcher.n_jobs=2"],
    "submitit_local": [],
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_gives_what_one_process_gives(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch, launcher: str
) -> None:
    package = f"hydra_plugins.hydra_{launcher.partition('_')[0]}_launcher"
    pytest.importorskip(package, reason="needs the extra of that launcher")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{project}")
    code, out, err = run(*WORDS, "sweep_dir=a")
    assert code == 0, err
    options = LAUNCHERS[launcher]
    code, other, err = run(*WORDS, "sweep_dir=b", f"hydra/launcher={launcher}", *options)
    assert code == 0, err
    assert rows(other) == rows(out)
    assert directories(project / "b") == directories(project / "a") == ["0_seed=1", "1_seed=2"]
    for name in directories(project / "a"):
        assert weights(project / "b" / name) == weights(project / "a" / name)
    # Two refused jobs are two refused jobs, also where exceptions are swallowed.
    code, other, err = run(
        *("-m", "task=mine", "trainer.max_epochs=0", "seed=1,2", "sweep_dir=c"),
        *(f"hydra/launcher={launcher}", *options),
    )
    assert code == 2
    assert [row.split()[2:4] for row in rows(other)] == [["refused", "(2)"]] * 2
    if launcher == "joblib":  # which keeps its processes for the next sweep
        executor = import_module("joblib.externals.loky").get_reusable_executor()
        executor.shutdown(wait=True)


def test_a_file_or_hydras_own_words_make_a_sweep_like_any_other(run: Run, project: Path) -> None:
    text = """\
        # @package _global_
        task: {_target_: cliproj.mine.Mine}
        trainer: {max_steps: 2, engine: graph}
        hydra:
          mode: MULTIRUN
          sweeper: {params: {seed: "1,2"}}
        """
    (project / "conf/task/many.yaml").write_text(re.sub("^ {8}", "", text, flags=re.MULTILINE))
    quick = ("trainer.max_steps=2", "trainer.engine=graph")
    calls = {
        "a": ("task=many", "sweep_dir=a"),
        "b": ("-m", "task=mine", "seed=1,2", "hydra.sweep.dir=b", *quick),
        "c": ("task=mine", "seed=1,2", "hydra.mode=MULTIRUN", "sweep_dir=c", *quick),
    }
    for place, words in calls.items():
        code, out, err = run(*words)
        assert code == 0, err
        assert directories(project / place) == ["0_seed=1", "1_seed=2"]
        assert [row.split()[2] for row in rows(out)] == ["completed"] * 2
        assert f"Sweep directory: {place}" in out
    assert not [name for name in files(project) if "multirun" in name]


def test_jobs_are_ranked_and_the_best_is_named(run: Run, project: Path) -> None:
    words = (*WORDS[:-1], "seed=1,2,3", "sweep_dir=s")
    code, out, err = run(*words, "objective=val/loss")
    assert code == 0, err
    losses = {n: result(project / f"s/{n}_seed={n + 1}")["metrics"]["val/loss"] for n in range(3)}
    order = sorted(losses, key=lambda n: losses[n])
    assert [int(row.split()[0]) for row in rows(out)] == order
    assert f"Best: #{order[0]}  seed={order[0] + 1}  val/loss {losses[order[0]]:.4f}" in out
    code, out, _ = run(*words, "objective=val/loss", "direction=max")
    assert [int(row.split()[0]) for row in rows(out)] == order[::-1]
    assert out.count("not run again") == 3
    # The numbers of a run that was complete before are repeated, too.
    code, out, _ = run("task=mine", *WORDS[2:4], "seed=1", "run_dir='s/0_seed=1'")
    assert code == 0
    assert f"test/loss {result(project / 's/0_seed=1')['metrics']['test/loss']:.4f}" in out


REFUSED = {
    "unknown launcher": (["hydra/launcher=jobli"], ["no launcher 'jobli'", "'joblib'"]),
    "jobs of another launcher": (
        ["hydra/launcher=joblib", "jobs=3"],
        ["jobs=3", "hydra.launcher.n_jobs=3"],
    ),
    "no number of jobs": (["jobs=many"], ["jobs is many"]),
    "no jobs": (["jobs=0"], ["jobs is 0", "1 or more"]),
    "direction": (["objective=val/loss", "direction=up"], ["no direction 'up'", "min, max"]),
    "unclear direction": (["objective=val/ratio"], ["val/ratio", "direction=max"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_mistake_is_one_screen_and_leaves_nothing(run: Run, project: Path, name: str) -> None:
    words, expected = REFUSED[name]
    before = files(project)
    code, _, err = run("-m", "task=mine", "seed=1,2", "sweep_dir=s", *words)
    assert code == 2
    assert [text for text in expected if text not in err] == []
    assert err.count("error:") == 1
    assert len(err.splitlines()) <= 12
    assert files(project) == before


def test_what_is_missing_is_named_with_what_installs_it(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from framework.cli import launchers

    monkeypatch.setattr(launchers, "is_installed", lambda name: False)
    for launcher, extra in {"submitit_slurm": "slurm", "ray": "ray", "joblib": "joblib"}.items():
        code, _, err = run("-m", "task=mine", "seed=1,2", f"hydra/launcher={launcher}")
        assert code == 2
        assert f'pip install "keras-task-framework[{extra}]"' in err


def test_a_metric_that_no_run_measures_ends_the_sweep(run: Run, project: Path) -> None:
    code, out, err = run(*WORDS, "sweep_dir=s", "objective=val/accuracy")
    assert code == 2
    assert "No run measures 'val/accuracy'" in err
    assert "val/loss" in err
    # The second job is not trained for nothing.
    assert [row.split()[2] for row in rows(out)] == ["completed", "refused"]


def test_a_mistake_does_not_change_the_record_of_a_sweep(run: Run, project: Path) -> None:
    assert run(*WORDS, "sweep_dir=s")[0] == 0
    before = (project / "s/sweep.json").read_text()
    assert run("-m", "task=mine", "seed=1,x", "sweep_dir=s")[0] == 2
    after = (project / "s/sweep.json").read_text()
    assert after == before


def test_nothing_of_a_job_reaches_the_next(run: Run, project: Path) -> None:
    text = (project / "cliproj/mine.py").read_text()
    text = text.replace(
        "class Closed(Mine)",
        "class Leaky(Mine):\n    def build_data(self):\n"
        "        import os\n        assert 'LEFT' not in os.environ, 'a job before has left this'\n"
        "        os.environ['LEFT'] = 'x'\n        os.chdir('/')\n"
        "        return super().build_data()\n\n\nclass Closed(Mine)",
    )
    (project / "cliproj/mine.py").write_text(text)
    (project / "conf/task/leaky.yaml").write_text("_target_: cliproj.mine.Leaky\n")
    code, _, err = run("-m", "task=leaky", "seed=1,2", f"sweep_dir={project}/s", *WORDS[2:4])
    assert code == 0, err
    assert Path.cwd() == project


def test_a_launcher_that_cannot_start_a_job_says_why(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from framework.sweep.launcher import ProcessLauncher

    def launch(self: object, job_overrides: object, initial_job_idx: int) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr(ProcessLauncher, "launch", launch)
    words = ("hydra/launcher=processes", "hydra.launcher.jobs=2")
    before = files(project)
    code, _, err = run(*WORDS, "sweep_dir=s", *words)
    assert code == 2
    assert "could not be started: OSError: [Errno 12] Cannot allocate memory" in err
    assert "where: hydra/launcher=processes" in err
    assert files(project) == before
