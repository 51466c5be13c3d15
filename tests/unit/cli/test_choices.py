"""A choice on the command line replaces the task's own, whatever its file sets for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli_project import Run, project, run
from omegaconf import OmegaConf

__all__ = ["project", "run"]

FILE = """\
# @package _global_
defaults:
  - override /callbacks: [early_stopping]
  - override /optimizer: adamw
  - override /schedule: warmup_cosine
  - override /loss: huber
  - override /loggers: [csv]
  - override /metrics: [top5]
  - override /data: mnist
  - override /model: small
task:
  _target_: cliproj.mine.Parts
callbacks:
  early_stopping: {patience: 7, monitor: val/loss}
optimizer: {weight_decay: 0.1, beta_1: 0.8, learning_rate: 0.01}
schedule: {warmup: 2}
loss: {delta: 2.0}
loggers: {csv: {filename: m.csv}}
metrics: {top5: {k: 3}}
data: {batch_size: 8, augment: {flip: true}}
model: {units: 5}
trainer: {max_steps: 1, engine: graph}
"""


@pytest.fixture
def defaults(project: Path) -> Path:
    (project / "conf/task/full.yaml").write_text(FILE)
    for group in ("optimizer", "data", "model"):
        (project / f"conf/{group}").mkdir(exist_ok=True)
    (project / "conf/optimizer/mine.yaml").write_text(
        "_target_: keras.optimizers.SGD\n_partial_: true\nlearning_rate: 0.5\n"
    )
    (project / "conf/data/mine.yaml").write_text(
        "_target_: cliproj.mine.load\n_partial_: true\nkwargs: {}\n"
    )
    (project / "conf/model/other.yaml").write_text("width: 1\nmore: {}\n")
    return project


def shown(run: Run, *words: str) -> dict[str, Any]:
    code, out, err = run("task=full", *words, "--cfg", "job")
    assert code == 0, err
    return OmegaConf.to_container(OmegaConf.create(out))  # type: ignore[return-value]


def test_the_files_own_choices_keep_their_options(run: Run, defaults: Path) -> None:
    config = shown(run)
    assert config["callbacks"]["early_stopping"]["patience"] == 7
    assert config["optimizer"]["beta_1"] == 0.8
    same = ["callbacks=early_stopping", "optimizer=adamw", "schedule=warmup_cosine", "loss=huber"]
    again = shown(run, *same, "loggers=[csv]", "metrics=[top5]", "data=mnist", "model=small")
    assert again == config


@pytest.mark.parametrize(
    ("override", "group", "options"),
    [
        ("callbacks=[]", "callbacks", {}),
        ("callbacks.early_stopping=null", "callbacks", {}),
        ("~callbacks.early_stopping", "callbacks", {}),
        ("loggers=[]", "loggers", {}),
        ("metrics=[]", "metrics", {}),
        ("schedule=none", "schedule", {}),
        ("loss=none", "loss", {}),
        ("~schedule", "schedule", {}),
        ("data=none", "data", {}),
        ("model=none", "model", {}),
        ("optimizer=mine", "optimizer", {"learning_rate": 0.01}),
        ("data=mine", "data", {"kwargs": {}}),
        ("model=other", "model", {"width": 1, "more": {}}),
        ("loss=mse", "loss", {"reduction": "sum_over_batch_size"}),
    ],
)
def test_another_choice_has_only_its_own(
    run: Run, defaults: Path, override: str, group: str, options: dict[str, Any]
) -> None:
    found = shown(run, override)[group]
    assert {k: v for k, v in found.items() if k[0] != "_"} == options


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([], {"early_stopping": 7, "ema": 0.5}),
        (["~callbacks.ema"], {"early_stopping": 7}),
        (["callbacks.ema=null"], {"early_stopping": 7}),
        (["callbacks.early_stopping.patience=2"], {"early_stopping": 2, "ema": 0.5}),
        (["~callbacks.early_stopping", "callbacks.ema.decay=0.1"], {"ema": 0.1}),
        (["callbacks=[early_stopping]"], {"early_stopping": 7}),
        (["callbacks=[ema,early_stopping,timer]"], {"early_stopping": 7, "ema": 0.5, "timer": 0}),
    ],
)
def test_one_of_the_tasks_callbacks_is_dropped_or_changed(
    run: Run, defaults: Path, words: list[str], chosen: dict[str, float]
) -> None:
    two = FILE.replace("/callbacks: [early_stopping]", "/callbacks: [early_stopping, ema]")
    two = two.replace("callbacks:\n", "callbacks:\n  ema: {decay: 0.5}\n")
    (defaults / "conf/task/full.yaml").write_text(two)
    found = {name: node for name, node in shown(run, *words)["callbacks"].items() if node}
    option = {"early_stopping": "patience", "ema": "decay"}
    assert {name: node.get(option.get(name), 0) for name, node in found.items()} == chosen


def test_what_both_choices_have_stays(run: Run, defaults: Path) -> None:
    words = ["optimizer=sgd", "optimizer.momentum=0.5", "data=cifar10", "schedule=cosine_decay"]
    config = shown(run, *words)
    assert config["optimizer"]["_target_"] == "keras.optimizers.SGD"
    assert config["optimizer"]["learning_rate"] == 0.01
    assert config["optimizer"]["momentum"] == 0.5
    assert "beta_1" not in config["optimizer"]
    assert config["data"]["batch_size"] == 8
    assert config["data"]["augment"]["flip"] is True
    assert config["schedule"]["decay_steps"] == "???"


def test_a_run_goes_without_the_default_callback(run: Run, defaults: Path) -> None:
    words = ("data=none", "schedule=none", "loss=none", "metrics=[]", "model=none")
    text = (defaults / "cliproj/mine.py").read_text()
    (defaults / "cliproj/mine.py").write_text(text.replace("self.data()", "self.data and None"))
    code, out, err = run("task=full", "callbacks=[ema]", *words, "run_dir=r")
    assert code == 0, err
    assert "ignoring options of another choice: callbacks.early_stopping" in out
    assert list(OmegaConf.load(defaults / "r/config.yaml").callbacks) == ["ema"]
    assert run("run_dir=r", "mode=test")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["callbacks=[]", "callbacks.early_stopping.patience=3"], "Choose it first: callbacks="),
        (["optimizer=sgd", "optimizer.beta_1=0.5"], "an option of optimizer=adam, adamw"),
        (["optimizer=sgd", "optimizer.momentm=0.5"], "Did you mean 'optimizer.momentum'?"),
        (["optimizer=sgd", "optimizer.momentum=abc"], "Give a number."),
        (["callbacks=ema", "callbacks.ema.decay=x"], "'x' is not a number"),
        (["~callbacks"], "callbacks=[]"),
    ],
)
def test_the_command_lines_own_mistakes_are_still_told(
    run: Run, defaults: Path, words: list[str], said: str
) -> None:
    code, _, err = run("task=full", *words, "run_dir=r")
    assert code == 2
    assert said in err
    assert "fix:" in err
    assert not (defaults / "r").exists()


def test_a_mistake_in_the_file_is_told(run: Run, defaults: Path) -> None:
    path = defaults / "conf/task/full.yaml"
    path.write_text(FILE.replace("beta_1", "beta_9"))
    code, _, err = run("task=full")
    assert code == 2
    assert "beta_9" in err
    assert "full.yaml" in err
    assert "fix:" in err
