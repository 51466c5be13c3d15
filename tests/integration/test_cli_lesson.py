"""The lesson's tasks on the command line, on tiny files, and what can be wrong with those."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_project import files
from places import ROOT
from tiny_images import image_set

TASKS = {
    "mnist_sequential": (28, 28),
    "mnist_functional": (28, 28),
    "mnist_subclass": (28, 28),
    "cifar100_sequential": (32, 32, 3),
    "cifar100_functional": (32, 32, 3),
    "cifar100_subclass": (32, 32, 3),
    "cifar100_gradient_tape": (32, 32, 3),
}

QUIET = ("trainer.enable_model_summary=false", "trainer.enable_progress_bar=false")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory with tiny image sets in `data/`."""
    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/mnist.npz", **image_set((28, 28), 10))
    np.savez(tmp_path / "data/cifar100.npz", **image_set((32, 32, 3), 100))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(here: Path, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    from framework.cli import main

    def call(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        given = ["--config-dir", str(ROOT / "conf"), "data.dir=data", "trainer.max_epochs=1"]
        code = main([*given, *words])
        return code, *capfd.readouterr()

    return call


@pytest.mark.parametrize("task", TASKS)
def test_an_exercise_trains_and_tests(task: str, run: Any, here: Path) -> None:
    code, _, err = run(f"task={task}", "run_dir=r", "model.conv_filters=[2,3]")
    assert code == 0, err
    result = json.loads(Path("r/result.json").read_text())
    assert (result["status"], result["epoch"], result["global_step"]) == ("completed", 1, 3)
    assert result["task"] == task
    assert result["overrides"] == [
        "data.dir=data",
        "trainer.max_epochs=1",
        f"task={task}",
        "run_dir=r",
        "model.conv_filters=[2,3]",
    ]
    assert result["data"]["source"] == "dir"
    assert (result["data"]["train_rows"], result["data"]["test_rows"]) == (70, 20)
    wanted = {"train/loss", "train/accuracy", "test/loss", "test/accuracy", "train/learning_rate"}
    assert set(result["metrics"]) == wanted
    # An untrained network of n classes knows nothing: its loss is near ln n.
    classes = 10 if "mnist" in task else 100
    assert result["metrics"]["test/loss"] == pytest.approx(np.log(classes), rel=0.1)
    assert {p.name for p in Path("r").iterdir() if not p.name.startswith((".", "events."))} == {
        "config.yaml",
        "overrides.yaml",
        "inputs.json",
        "result.json",
        "metrics.csv",
        "log.txt",
        "checkpoints",
        "train",
        "test",
    }
    assert not list(here.glob("outputs")) + list(here.glob("multirun"))


def test_the_lessons_batches_hold_one_image_of_32(run: Any) -> None:
    code, _, err = run("task=cifar100_gradient_tape", "task.batching=lesson", "run_dir=r")
    assert code == 0, err
    result = json.loads(Path("r/result.json").read_text())
    assert result["global_step"] == 70 // 32
    assert result["data"]["train_rows"] == 70 // 32


def test_every_mode_on_one_run(run: Any) -> None:
    small = ("model.conv_filters=[2,3]", "model.dense_units=4")
    task = ("task=mnist_functional", "run_dir=r", "data.val_fraction=0.2", *small)
    assert run(*task)[0] == 0
    trained = json.loads(Path("r/result.json").read_text())
    assert "val/accuracy" in trained["metrics"]
    for which in ("best", "last"):
        code, _, err = run(*task, "mode=test", f"checkpoint={which}")
        assert code == 0, err
    tested = json.loads(Path("r/result.json").read_text())
    assert tested["metrics"] == pytest.approx(trained["metrics"], rel=1e-6)
    assert (tested["status"], tested["global_step"]) == ("completed", trained["global_step"])
    assert run(*task, "mode=validate")[0] == 0
    code, _, err = run(*task, "mode=predict")
    assert code == 0, err
    predictions = np.load("r/predictions.npz")["predictions"]
    assert predictions.shape == (20, 10)
    assert predictions.sum(axis=1) == pytest.approx(np.ones(20), rel=1e-5)
    # The same command again has nothing to do, and more epochs extend the run.
    assert run(*task)[0] == 0
    assert run(*task, "trainer.max_epochs=2")[0] == 0
    assert json.loads(Path("r/result.json").read_text())["epoch"] == 2


def broken(here: Path, **changes: Any) -> None:
    arrays = image_set((32, 32, 3), 100) | changes
    np.savez(here / "data/cifar100.npz", **{k: v for k, v in arrays.items() if v is not None})


def with_nan() -> Any:
    x = image_set((32, 32, 3), 100)["x_train"].astype("float32") / 255
    x[[5, 9], 3, 3, 0] = np.nan
    return x


FAULTS: dict[str, tuple[Callable[[Path], Any], list[str], list[str]]] = {
    "no such file": (lambda d: None, ["data.dir=nowhere"], ["cifar100.npz", "data.dir"]),
    "empty file": (
        lambda d: (d / "data/cifar100.npz").write_bytes(b""),
        [],
        ["cifar100.npz", "empty"],
    ),
    "not an npz": (
        lambda d: (d / "data/cifar100.npz").write_text("images"),
        [],
        ["cifar100.npz"],
    ),
    "cut short": (
        lambda d: os.truncate(d / "data/cifar100.npz", 100_000),
        [],
        ["cifar100.npz"],
    ),
    "missing key": (lambda d: broken(d, y_test=None), [], ["y_test", "cifar100.npz"]),
    "rows differ": (
        lambda d: broken(d, y_train=np.zeros(69, np.uint8)),
        [],
        ["x_train", "70", "69"],
    ),
    "no rows": (
        lambda d: broken(d, x_test=np.zeros((0, 32, 32, 3), np.uint8), y_test=np.zeros(0, int)),
        [],
        ["x_test"],
    ),
    "NaN": (lambda d: broken(d, x_train=with_nan()), [], ["NaN", "2 of 70", "5"]),
    "objects": (
        lambda d: broken(d, x_train=np.array([{}] * 70, object)),
        [],
        ["x_train"],
    ),
    "label outside the network": (
        lambda d: None,
        ["model.classes=10"],
        ["label", "10 classes"],
    ),
    "images of another shape": (
        lambda d: broken(
            d, **{k: v[:, :28] for k, v in image_set((32, 32, 3), 100).items() if "x" in k}
        ),
        ["task=cifar100_functional"],
        ["28", "32"],
    ),
    "too small for the network": (
        lambda d: broken(
            d, **{k: v[:, :4, :4] for k, v in image_set((32, 32, 3), 100).items() if "x" in k}
        ),
        [],
        ["4, 4"],
    ),
    "unknown device": (lambda d: None, ["trainer.device=tpu"], ["'tpu'", "cpu"]),
    "device not there": (lambda d: None, ["trainer.device=gpu:7"], ["gpu:7", "cpu:0"]),
    "nothing to validate on": (
        lambda d: None,
        ["callbacks=early_stopping"],
        ["val/loss", "no validation data", "data.val_fraction"],
    ),
    "metric that nobody logs": (
        lambda d: None,
        ["callbacks=early_stopping", "callbacks.early_stopping.monitor=train/acuracy"],
        ["train/acuracy", "'train/accuracy'"],
    ),
    "batch size": (lambda d: None, ["data.batch_size=0"], ["batch_size is 0"]),
    "fraction": (lambda d: None, ["data.val_fraction=1.5"], ["val_fraction is 1.5"]),
    "augmentation": (lambda d: None, ["data.augment.crop=-1"], ["crop"]),
    "source": (lambda d: None, ["data.source=reel"], ["'reel'", "'real'"]),
    "batching": (
        lambda d: None,
        ["task=cifar100_gradient_tape", "task.batching=les"],
        ["batching", "lesson"],
    ),
    "option of the network": (lambda d: None, ["model.dense=3"], ["'model.dense_units'"]),
    "no loss": (lambda d: None, ["loss=none"], ["needs a loss", "sparse_categorical_crossentropy"]),
    "no network": (lambda d: None, ["model=none"], ["needs a model", "model=network_b"]),
    "loss for other labels": (
        lambda d: None,
        ["loss=categorical_crossentropy"],
        ["train_step", "classifier.py"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_gets_one_screen(fault: str, run: Any, here: Path) -> None:
    make, words, wanted = FAULTS[fault]
    make(here)
    task = [] if any(w.startswith("task=") for w in words) else ["task=cifar100_subclass"]
    before = files(here)
    code, out, err = run(*task, *words, *QUIET)
    assert code == 2, out + err
    assert "Traceback" not in out + err
    assert len((out + err).splitlines()) <= 24
    for text in wanted:
        assert text in err, err
    assert files(here) == before


@pytest.fixture
def mounted(here: Path) -> Iterator[Callable[[str], Path]]:
    """Mount a small file system in memory; skipped where that is not allowed."""
    made: list[Path] = []

    def mount(options: str) -> Path:
        path = here / "mounted"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("mounting needs root")
        made.append(path)
        return path

    yield mount
    for path in made:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize(
    ("options", "why"), [("ro", "Read-only"), ("size=4k,nr_inodes=2", "space")]
)
def test_a_run_directory_that_takes_nothing(
    options: str, why: str, run: Any, mounted: Callable[[str], Path]
) -> None:
    disk = mounted(options)
    code, out, err = run("task=mnist_functional", f"run_dir={disk}/r")
    assert code == 2, out + err
    assert why in err
    assert "Traceback" not in out + err
    assert not list(disk.iterdir())


def test_a_disk_too_small_for_a_checkpoint_is_left_as_it_was(
    run: Any, mounted: Callable[[str], Path]
) -> None:
    disk = mounted("size=64k")
    code, out, err = run("task=mnist_functional", f"run_dir={disk}/r", *QUIET)
    assert code == 2, out + err
    assert "No space left on device" in err
    assert f"where: {disk}/r" in err
    assert "run_dir=<path>" in err
    assert "Traceback" not in out + err
    assert len((out + err).splitlines()) <= 24
    assert not list(disk.iterdir())


def test_a_disk_that_fills_up_later_leaves_a_run_that_continues(
    run: Any, mounted: Callable[[str], Path]
) -> None:
    disk = mounted("size=1m")
    small = ("model.conv_filters=[2,3]", "model.dense_units=2", "optimizer=sgd", "loggers=csv")
    words = ("task=mnist_functional", f"run_dir={disk}/r", *small, *QUIET)
    assert run(*words)[0] == 0
    with open(disk / "full", "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(b"0" * 4096):
                pass
        file.truncate(file.tell() - 6 * 4096)  # room to begin in, but not for a checkpoint
    code, out, err = run(*words, "trainer.max_epochs=3")
    assert code == 2, out + err
    assert "No space left on device" in err
    assert "run the same command again: it resumes at step 3." in err
    assert "Traceback" not in out + err
    assert [p.name for p in (disk / "r/checkpoints").glob("step-*")] == ["step-00000003"]
    assert not [p for p in files(disk) if p.endswith(".tmp") or ("/." in p and "/.lock" not in p)]
    (disk / "full").unlink()
    code, _, err = run(*words, "trainer.max_epochs=3")
    assert code == 0, err
    assert json.loads((disk / "r/result.json").read_text())["global_step"] == 9
