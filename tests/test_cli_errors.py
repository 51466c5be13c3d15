"""Every mistake gets one screen that names it: no traceback, exit code 2, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run, files, project, run

__all__ = ["project", "run"]

# Arguments, and what the message must say. None of these needs TensorFlow.
CONFIGURATION = {
    "no task": (["seed=3"], ["No task is given", "mine", "A line through points."]),
    "unknown task": (["task=mien"], ["no task 'mien'", "Did you mean 'mine'?", "A line through"]),
    "task without key": (["mine"], ["gives no key", "task=mine"]),
    "empty task": (["task="], ["no task ''", "mine"]),
    "mistyped option": (
        ["task=mine", "trainer.max_epoch=3"],
        ["'trainer.max_epoch'", "'trainer.max_epochs'"],
    ),
    "mistyped group": (["task=mine", "optimzer=sgd"], ["'optimzer'", "'optimizer'"]),
    "mistyped group of an option": (
        ["task=mine", "trianer.max_epochs=3"],
        ["'trianer.max_epochs'", "'trainer.max_epochs'"],
    ),
    "mistyped choice": (["task=mine", "optimizer=sdg"], ["no optimizer 'sdg'", "'sgd'"]),
    "mistyped choice in a list": (["task=mine", "metrics=[acuracy]"], ["'acuracy'", "'accuracy'"]),
    "mistyped mode": (["task=mine", "mode=tset"], ["no mode 'tset'", "'test'"]),
    "mistyped flag": (["--cgf", "job"], ["no flag --cgf", "'--cfg'"]),
    "flag without value": (["task=mine", "--cfg"], ["--cfg needs a value"]),
    "no such config dir": (["task=mine", "--config-dir", "nope"], ["no such directory", "nope"]),
    "no value": (["task=mine", "trainer.max_epochs"], ["gives no value", "trainer.max_epochs=<"]),
    "no key": (["task=mine", "=3"], ["gives no key"]),
    "open bracket": (["task=mine", "metrics=[mse"], ["unbalanced brackets"]),
    "open quote": (["task=mine", "checkpoint='a"], ["open quote"]),
    "spaces": (["task=mine", "a b=c d"], ["cannot be read", "Quote"]),
    "several values": (["task=mine", "seed=1,2"], ["several values: 1,2", "-m", "[1,2]"]),
    "word for a number": (
        ["task=mine", "trainer.max_epochs=abc"],
        ["trainer.max_epochs", "'abc'", "a whole number"],
    ),
    "fraction for a count": (
        ["task=mine", "trainer.max_epochs=2.5"],
        ["trainer.max_epochs", "'2.5'", "a whole number"],
    ),
    "word for one of two types": (
        ["task=mine", "trainer.limit_val_batches=abc"],
        ["trainer.limit_val_batches", "'abc'", "a whole number or a number"],
    ),
    "number for a switch": (["task=mine", "debug=7.5"], ["debug", "'7.5'", "true or false"]),
    "type in a sweep": (["-m", "task=mine", "seed=1,a"], ["seed", "'a'", "a whole number"]),
    "choice in a sweep": (["-m", "task=mine,mien"], ["no task 'mien'", "'mine'"]),
    "out of range": (["task=mine", "trainer.max_epochs=0"], ["max_epochs is 0", "1 or more"]),
    "negative seed": (["task=mine", "seed=-3"], ["seed is -3"]),
    "no interval": (["task=mine", "trainer.val_every=1xp"], ["'1xp'", "500st"]),
    "unknown precision": (["task=mine", "trainer.precision=float31"], ["'float31'", "'float32'"]),
    "option of a choice not made": (
        ["task=mine", "callbacks.early_stopping.patience=3"],
        ["callbacks=early_stopping"],
    ),
    "option of nothing": (["task=mine", "data.batch_size=3"], ["data=<mnist"]),
    "option of another choice": (["task=mine", "optimizer.momentum=0.9"], ["optimizer=sgd, rms"]),
    "option of a value": (["task=mine", "seed.x=1"], ["seed is a value"]),
    "option of the task": (["task=mine", "task.unit=2"], ["'task.unit'", "'task.units'"]),
    "value left open": (["task=blank"], ["task.units"]),
    "typo in the task's file": (["task=typo"], ["max_epoch", "typo.yaml"]),
    "hidden task": (["task=_base"], ["no task '_base'", "mine"]),
    "shared run directory": (["-m", "task=mine", "seed=1,2", "run_dir=a"], ["sweep_dir=a"]),
    "evaluating nothing": (["task=mine", "mode=test", "run_dir=runs/a"], ["no run to test"]),
    "directory of something else": (["task=mine", "run_dir=conf"], ["not a run's", "conf"]),
    "file as a directory": (["task=mine", "run_dir=cliproj/mine.py"], ["is a file"]),
    "directory that cannot be made": (["task=mine", "run_dir=/proc/x/y"], ["Cannot write there"]),
    "sweep that cannot be made": (
        ["-m", "task=mine", "seed=1,2", "sweep_dir=/proc/x/y"],
        ["Cannot write there"],
    ),
    "sweep in a file": (
        ["-m", "task=mine", "seed=1,2", "sweep_dir=cliproj/mine.py"],
        ["Cannot write there"],
    ),
}

# The same for the task's code, which is imported for it.
CODE = {
    "no such module": (["task=nomodule"], ["no module 'cliproj.mien'", "'mine'"]),
    "no such class": (["task=noclass"], ["no 'Mien' in cliproj.mine", "'Mine'"]),
    "syntax error": (["task=syntax"], ["syntax error", "broken.py:1"]),
    "error at import": (["task=raises"], ["KeyError", "NO_SUCH_VARIABLE", "raises.py:3"]),
    "no task": (["task=notask"], ["NoTask is no Task"]),
    "missing methods": (["task=half"], ["Half lacks eval_step, train_step", "mine.py:"]),
    "missing argument": (["task=needy"], ["Needy needs width", "task.width"]),
    "unknown argument": (["task=mine", "+task.unis=2"], ["no argument 'unis'", "'units'"]),
    "refused by the constructor": (
        ["task=mine", "+task.fail=init"],
        ["Mine(...) failed: ValueError: no such units", "mine.py:"],
    ),
    "optimizer not taken": (["task=closed", "optimizer=sgd"], ["Closed takes no optimizer"]),
    "optimizer not used": (["task=tuned", "optimizer.learning_rate=1"], ["configure_optimizers"]),
    "data not used": (["task=mine", "data=mnist"], ["build_data does not use self.data"]),
    "model not taken": (["task=mine", "model=small"], ["Mine takes no model"]),
    "rate of no number": (
        ["task=mine", "optimizer.learning_rate=abc"],
        ["optimizer.learning_rate: 'abc' is not a number"],
    ),
    "callback out of range": (
        ["task=mine", "callbacks=early_stopping", "callbacks.early_stopping.patience=0"],
        ["patience"],
    ),
    "unknown device": (["task=mine", "trainer.device=gpu:77"], ["gpu:77"]),
}


@pytest.mark.parametrize("name", [*CONFIGURATION, *(f"code: {n}" for n in CODE)])
def test_a_mistake_gets_one_screen(name: str, run: Run, project: Path) -> None:
    words, wanted = CODE[name[6:]] if name.startswith("code: ") else CONFIGURATION[name]
    before = files(project)
    code, out, err = run(*words, plain=True)
    assert code == 2
    assert err.startswith("error: ")
    assert "Traceback" not in out + err
    assert not any(advice in out + err for advice in ("append to your config", "use +", "HYDRA_"))
    assert len((out + err).splitlines()) <= 24
    for text in wanted:
        assert text in err
    assert files(project) == before


def test_debug_shows_the_traceback(run: Run) -> None:
    for flag in ("-v", "debug=true"):
        code, _, err = run("task=mine", "+task.fail=init", flag)
        assert code == 2
        assert "Traceback" in err
        assert 'raise ValueError("no such units")' in err


def test_no_arguments_give_a_short_usage(run: Run) -> None:
    code, out, err = run(plain=True)
    assert code == 2
    assert not out
    assert "usage:" in err
    assert "A line through points." in err
    assert "_base" not in err


def test_a_full_disk_is_reported_before_tensorflow_starts(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(self: Path, *args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    before = files(project)
    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr("framework.cli.run._assemble", None)
    code, _, err = run("task=mine", "run_dir=out/a")
    assert code == 2
    assert "No space left on device" in err
    assert files(project) == before


def test_a_part_that_the_task_never_reads_is_announced(run: Run) -> None:
    code, _, err = run("task=mine", "loss=mse", "trainer.fast_dev_run=true")
    assert code == 0
    assert "Mine never uses self.loss" in err
