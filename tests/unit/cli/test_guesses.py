"""What everybody types first is answered with the right key."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run, files, project, run

from framework.cli.did_you_mean import meant
from framework.config import ENGINES, PRECISIONS, RESUMES, STRATEGIES
from framework.errors import choice

__all__ = ["project", "run"]

# What is typed, and what the answer must hold.
GUESSES = {
    "lr=0.1": "optimizer.learning_rate=0.1",
    "learning_rate=0.1": "optimizer.learning_rate=0.1",
    "optimizer.lr=0.1": "optimizer.learning_rate=0.1",
    "trainer.lr=0.1": "optimizer.learning_rate=0.1",
    "epochs=3": "trainer.max_epochs=3",
    "max_epochs=3": "trainer.max_epochs=3",
    "trainer.epochs=3": "trainer.max_epochs",
    "steps=3": "trainer.max_steps=3",
    "batch_size=8": "data.batch_size=8",
    "gpus=2": "trainer.devices=2",
    "devices=2": "trainer.devices=2",
    "device=cpu": "trainer.device=cpu",
    "precision=16": "trainer.precision=16",
    "fp16=true": "trainer.precision=mixed_float16",
    "num_workers=4": "Leave it out",
    "ckpt=x": "checkpoint=x",
    "resume_from=x": "checkpoint=x",
    "experiment=mine": "task=mine",
    "output_dir=x": "run_dir=x",
    "engine=eager": "trainer.engine=eager",
    "dataset=mnist": "data=mnist",
    "patience=3": "callbacks=early_stopping callbacks.early_stopping.patience=3",
    "trianer.max_epochs=3": "'trainer.max_epochs'",
    "trainer.max_epoch=3": "'trainer.max_epochs'",
    "sed=3": "'seed'",
    "task.unitz=3": "'task.units'",
    "task.other=3": "+task.other=3",
}


@pytest.mark.parametrize("typed", GUESSES)
def test_a_guess_gets_the_right_key(run: Run, project: Path, typed: str) -> None:
    before = files(project)
    code, _, err = run("task=mine", typed)
    assert code == 2
    fix = err.partition("fix:")[2]
    assert GUESSES[typed] in fix, err
    assert files(project) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["experiment=mine"], "task=mine"),
        (["--task", "mine"], "task=mine"),
        (["--lr", "0.1", "task=mine"], "optimizer.learning_rate=0.1"),
        (["--lr=0.1", "task=mine"], "optimizer.learning_rate=0.1"),
        (["task=mine", "--max-epochs", "3"], "trainer.max_epochs=3"),
        (["task=mine", "--batch_size=8"], "data.batch_size=8"),
        (["task=mine", "--fp16"], "trainer.precision=mixed_float16"),
        (["task=mine", "--optimizer", "sgd"], "optimizer=sgd"),
        (["task=mine", "--hepl"], "--help"),
        (["task=mine", "--nonsense"], "--multirun"),
        (["task=mine", "mode=train"], "Did you mean 'fit'? Choose one of: fit, validate"),
        (["task=mine", "--seed=3"], "seed=3"),
        (["task=mine", "seed:3"], "Write seed=3"),
        (["task=mine", "hydra.run.dir=x"], "run_dir=x"),
        (["task=mine", "hydra.sweep.dir=~/x"], "sweep_dir="),
        (["-m", "task=mine", "hydra.sweep.subdir=x"], "sweep_dir="),
        (["run_dir=r", "mode=tset"], "fit, validate, test, predict"),
        (["task=mine", "mode=tset"], "fit, validate, test, predict"),
        (["task=mine", "--cfg", "jbo"], "job, hydra, all"),
        (["task=mine", "optimizer=adm"], "'adam'"),
        (["task=mine", "optimizer=zzz"], "none, adam, adamw, nadam, adamax, sgd"),
        (["task=mine", "trainer.precision=float17"], ", ".join(PRECISIONS)),
        (["task=mine", "trainer.precision=16"], ", ".join(PRECISIONS)),
        (["task=mine", "trainer.engine=grph"], ", ".join(ENGINES)),
        (["task=mine", "trainer.strategy=ddp"], ", ".join(STRATEGIES)),
        (["task=mine", "resume=yes"], ", ".join(RESUMES)),
        (["task=mine", "trainer.device=cuda"], "gpu"),
        (["task=mine", "trainer.device=tpu:0"], "auto, cpu, gpu"),
        (["task=mine", "seed=1.5"], "whole number"),
        (["task=mine", "seed=abc"], "whole number"),
        (["task=mine", "seed=-1"], "0 up to"),
    ],
)
def test_other_guesses(run: Run, project: Path, words: list[str], said: str) -> None:
    before = files(project)
    code, _, err = run(*words)
    assert code == 2
    assert said in err.partition("fix:")[2], err
    assert files(project) == before


def test_a_sweep_that_the_sweeper_cannot_do(run: Run, project: Path) -> None:
    code, out, err = run("-m", "task=mine", "seed=interval(0,3)", "sweep_dir=s")
    assert code == 2, out
    assert "seed=interval(0,3)" in err
    assert "seed=0,3" in err.partition("fix:")[2]
    assert not (project / "s").exists()


@pytest.mark.parametrize("device", ["cuda", "gpu:7", "gpu", "tpu"])
def test_a_device_is_refused_before_any_data(run: Run, project: Path, device: str) -> None:
    source = (project / "cliproj/mine.py").read_text()
    mark = "def build_data(self):"
    source = source.replace(mark, f"{mark}\n        open('fetched', 'w')")
    (project / "cliproj/mine.py").write_text(source)
    code, _, err = run("task=mine", f"trainer.device={device}", "run_dir=r")
    assert code == 2
    assert "fix:" in err
    assert not (project / "fetched").exists()
    assert not (project / "r").exists()


def test_all_choices_are_listed_and_keys_are_known() -> None:
    assert choice("adm", ["sgd", "adam"]) == "Did you mean 'adam'? Choose one of: sgd, adam."
    assert choice("zzz", ["sgd", "adam"]) == "Choose one of: sgd, adam."
    assert meant("trainer.max_epochs") == ""
    assert meant("nothing_like_it") == ""


@pytest.mark.parametrize("group", ["early_stopping", "reduce_on_plateau"])
def test_names_of_metrics_as_keras_has_them(run: Run, project: Path, group: str) -> None:
    code, _, err = run("task=mine", f"callbacks={group}", f"callbacks.{group}.monitor=val_mae")
    assert code == 2
    assert "val/mae or train/mae" in err
