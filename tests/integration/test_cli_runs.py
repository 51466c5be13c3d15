"""Whole runs by the command line: what they leave, compute, continue and evaluate."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_project import Run, files, project, result, run

__all__ = ["project", "run"]


def only_run(folder: Path) -> Path:
    (path,) = (folder / "runs").glob("*/*")
    return path


def test_a_run_leaves_its_directory_and_nothing_else(run: Run, project: Path) -> None:
    before = files(project)
    code, out, err = run("task=mine", "trainer.max_epochs=2", "optimizer.learning_rate=0.01")
    assert code == 0, err
    path = only_run(project)
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", path.name)
    assert path.parent.name == "mine"
    assert all(name.startswith("runs") for name in files(project) - before)
    there = {p.name for p in path.iterdir()}
    assert there >= {
        *("config.yaml", "overrides.yaml", "result.json", "metrics.csv", "log.txt"),
        *("checkpoints", "train", "val", "test"),
    }
    found = result(path)
    assert found["status"] == "completed"
    assert found["task"] == "mine"
    assert found["global_step"] == 20
    assert found["overrides"][:2] == ["task=mine", "trainer.max_epochs=2"]
    assert "learning_rate: 0.01" in (path / "config.yaml").read_text()
    assert f"test/loss {found['metrics']['test/loss']:.4f}" in out
    assert f"Run directory: runs/mine/{path.name}" in out
    assert f"tensorboard --logdir runs/mine/{path.name}" in out


def test_a_batch_job_of_slurm_that_runs_again_finds_its_run(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    monkeypatch.setenv("ENVIRONMENT", "BATCH")
    words = "task=parts", "trainer.max_steps=2", "trainer.engine=graph", "loggers=[]"
    code, _, err = run(*words)
    assert code == 0, err
    first = only_run(project)
    assert re.fullmatch("slurm-12-[0-9a-f]{8}", first.name)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    code, out, err = run(*words)
    assert (code, only_run(project)) == (0, first), err
    assert "already complete" in out + err
    # Another command of the job, and one that only evaluates, have their own.
    assert run(*words, "seed=5")[0] == 0
    assert run("task=parts", "mode=test", f"checkpoint={first}")[0] == 0
    names = sorted(path.name[:8] for path in (project / "runs/parts").iterdir())
    assert names[1:] == ["slurm-12", "slurm-12"]
    assert len(names) == 3


def test_what_a_run_computes(run: Run, project: Path) -> None:
    # Gradient descent on the same batches, in NumPy: no shuffling, so the order is known.
    words = ["optimizer=sgd", "optimizer.learning_rate=0.05", "trainer.limit_train_batches=4"]
    code, _, err = run("task=parts", "run_dir=a", "model=small", *words, "trainer.max_epochs=1")
    assert code == 0, err
    code, _, err = run("task=parts", "run_dir=a", "mode=predict", *words)
    assert code == 0, err
    with np.load("a/predictions.npz") as arrays:
        assert list(arrays) == ["predictions"]
        predictions = arrays["predictions"]
    x = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    assert predictions.shape == (40, 1)
    loss = float(np.mean((predictions - y[20:60]) ** 2))
    assert result(project / "a")["metrics"]["test/loss"] == pytest.approx(loss, rel=1e-5)


def test_parts_reach_the_task(run: Run) -> None:
    import keras

    code, _, err = run("task=parts", "optimizer.momentum=0.5", "trainer.fast_dev_run=true")
    assert code == 0, err
    seen = sys.modules["cliproj.mine"].Parts.seen
    assert set(seen) == {"model", "optimizer", "loss", "metrics"}
    assert seen["model"].units == 4
    assert seen["model"].head.dropout == 0.5
    assert isinstance(seen["loss"], keras.losses.MeanSquaredError)
    assert list(seen["metrics"]) == ["mae"]
    value = seen["metrics"]["mae"](np.zeros((2, 3)), np.full((2, 3), 0.25))
    assert np.allclose(value, [0.25, 0.25])
    optimizer = seen["optimizer"]()
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert optimizer.momentum == 0.5


def test_a_fast_dev_run_leaves_nothing(run: Run, project: Path) -> None:
    before = files(project)
    code, _, err = run("task=mine", "trainer.fast_dev_run=true")
    assert code == 0, err
    assert files(project) == before


def test_a_run_is_continued_and_evaluated(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    code, _, err = run("task=mine", "run_dir=a", "trainer.max_epochs=3")
    assert code == 0, err
    assert result(project / "a")["global_step"] == 30
    straight = run("task=mine", "run_dir=b", "trainer.max_epochs=3")
    assert straight[0] == 0
    metrics = result(project / "b")["metrics"]
    assert result(project / "a")["metrics"] == metrics

    config = (project / "a/config.yaml").read_text()
    code, out, err = run("task=mine", "run_dir=a", "mode=test", "trainer.max_epochs=7")
    assert code == 0, err
    assert f"test/loss {metrics['test/loss']:.4f}" in out
    code, out, err = run("task=mine", "run_dir=a", "mode=validate", "checkpoint=last")
    assert code == 0, err
    assert f"val/loss {metrics['val/loss']:.4f}" in out
    assert (project / "a/config.yaml").read_text() == config


def test_an_evaluation_takes_what_the_run_was_begun_with(run: Run, project: Path) -> None:
    given = ("task=parts", "seed=3", "trainer.precision=mixed_bfloat16", "model.units=1")
    assert run(*given, "run_dir=a", "data=none", "trainer.max_epochs=1")[0] == 0
    before = result(project / "a")
    code, out, err = run("run_dir=a", "mode=test")  # nothing needs to be said again
    assert code == 0, err
    after = result(project / "a")
    assert after["metrics"] == before["metrics"]
    assert f"test/loss {before['metrics']['test/loss']:.4f}" in out
    # What an evaluation does not change: all but its metrics, and whose weights it judged.
    changed = {"metrics", "weights"}
    assert {k: v for k, v in after.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    assert after["weights"]["test"]["step"] == before["weights"]["test"]["step"]
    assert (after["seed"], after["precision"]) == (3, "mixed_bfloat16")
    assert after["best"] is not None
    assert after["examples_per_second"] > 0

    # What is given explicitly holds, and a configuration that was changed meanwhile does not.
    (project / "conf/model/small.yaml").write_text("units: 1\nhead: {dropout: 0.9}\n")
    code, _, err = run("run_dir=a", "mode=validate", "seed=5", "trainer.precision=float32")
    assert code == 0, err
    assert "validating on different rows than the run did: trainer.seed is 5, was 3" in err
    assert sys.modules["cliproj.mine"].Parts.seen["model"].head.dropout == 0.5
    code, _, err = run("run_dir=a", "mode=validate")
    assert code == 0, err
    assert "different rows" not in err
    assert result(project / "a")["metrics"] == pytest.approx(before["metrics"], rel=1e-6)
    code, _, err = run("run_dir=a", "mode=test", "task=mine")
    assert code == 2
    assert "cliproj.mine.Parts" in err
    assert "cliproj.mine.Mine" in err


def test_a_finished_run_keeps_its_speed(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    before = result(project / "a")
    assert before["examples_per_second"] > 0
    assert run("task=mine", "run_dir=a")[0] == 0
    assert result(project / "a") == before | {"overrides": result(project / "a")["overrides"]}


def test_a_fast_evaluation_finds_the_weights_and_writes_nothing(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    before = {p: p.read_bytes() for p in (project / "a").rglob("*") if p.is_file()}
    there = files(project)
    code, out, err = run("run_dir=a", "mode=test", "trainer.fast_dev_run=4", "checkpoint=best")
    assert code == 0, err
    loss = result(project / "a")["metrics"]["test/loss"]  # of all 4 batches
    assert f"test/loss {loss:.4f}" in out
    code, _, err = run("task=mine", "mode=test", "trainer.fast_dev_run=true")
    assert code == 0, err
    assert files(project) == there
    assert {p: p.read_bytes() for p in before} == before


def test_a_run_can_be_named_as_a_checkpoint(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    loss = result(project / "a")["metrics"]["test/loss"]
    code, out, err = run("task=mine", "mode=test", "checkpoint=a")
    assert code == 0, err
    assert f"test/loss {loss:.4f}" in out
    assert "tensorboard" in out
    code, out, err = run("run_dir=a", "mode=predict", "loggers=[]")
    assert code == 0, err
    assert "tensorboard" not in out
    code, _, err = run("run_dir=a", "mode=test", "checkpoint=77")
    assert code == 2
    assert "Saved steps: 10" in err


def test_fewer_rows_do_not_continue_a_run(run: Run, project: Path) -> None:
    # The task's own argument is of the configuration; the file that it reads is not.
    (project / "cliproj/filed.py").write_text(
        "from pathlib import Path\nfrom cliproj.mine import Mine\n\n\nclass Filed(Mine):\n"
        "    def build_data(self):\n        self.rows = int(Path('rows').read_text())\n"
        "        return super().build_data()\n"
    )
    (project / "conf/task/filed.yaml").write_text("_target_: cliproj.filed.Filed\n")
    (project / "rows").write_text("100")
    assert run("task=filed", "run_dir=a", "trainer.max_steps=7")[0] == 0
    before = result(project / "a")
    (project / "rows").write_text("60")
    code, _, err = run("task=filed", "run_dir=a", "trainer.max_steps=20")
    assert code == 2
    assert "started with 100 training rows, but now there are 60" in err
    assert result(project / "a") == before


def test_the_log_holds_what_the_terminal_showed(run: Run, project: Path) -> None:
    code, _, err = run("task=mine", "run_dir=a", "trainer.max_epochs=2")
    assert code == 0, err
    log = (project / "a/log.txt").read_text()
    metrics = result(project / "a")["metrics"]
    assert "4 parameters" in log
    assert "epoch 1, step 10:  train/loss" in log
    assert f"epoch 2, step 20:  train/loss {metrics['train/loss']:.4f}" in log
    assert f"test:  test/loss {metrics['test/loss']:.4f}" in log


def test_another_configuration_does_not_continue_a_run(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    before = {p: p.read_bytes() for p in (project / "a").rglob("*") if p.is_file()}
    code, _, err = run("task=mine", "run_dir=a", "seed=5", "optimizer.learning_rate=0.5")
    assert code == 2
    assert re.search(r"^ +seed +0 +5$", err, re.MULTILINE)
    assert re.search(r"^ +optimizer.learning_rate +0.001 +0.5$", err, re.MULTILINE)
    assert "max_epochs" not in err
    assert "trainer.seed" not in err  # it follows seed, which has a row already
    code, _, err = run("task=mine", "run_dir=a", "mode=test", "task.units=2")
    assert code == 2
    assert re.search(r"^ +task.units +1 +2$", err, re.MULTILINE)
    # Refused only later, by the task's code.
    code, _, _ = run("task=mine", "run_dir=a", "trainer.max_epochs=2", "trainer.device=gpu:9")
    assert code == 2
    after = {p: p.read_bytes() for p in (project / "a").rglob("*") if p.is_file()}
    changed = {p.name for p in after if before.get(p) != after[p]}
    assert changed <= {"log.txt", "result.json"}
    assert set(after) == set(before)


def test_a_failure_keeps_the_run_and_its_traceback(run: Run, project: Path) -> None:
    code, out, err = run("task=mine", "+task.fail=epoch")
    assert code == 1
    assert "error: RuntimeError: boom in a hook" in err
    assert "Traceback" not in out + err
    path = only_run(project)
    assert result(path)["status"] == "failed"
    log = (path / "log.txt").read_text()
    assert "Traceback" in log
    assert 'raise RuntimeError("boom in a hook")' in log


def test_a_directory_in_use_is_refused(run: Run, project: Path) -> None:
    from framework.cli.run_dir import RunDir

    assert run("task=mine", "run_dir=a")[0] == 0
    before = files(project)
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(OmegaConf.load("a/config.yaml"))
    held = RunDir(Path("a"), config, [])
    code, _, err = run("task=mine", "run_dir=a")
    held.close(keep=True)
    assert code == 2
    assert "Another run is writing" in err
    assert files(project) == before
    assert run("task=mine", "run_dir=a")[0] == 0
