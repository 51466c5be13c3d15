"""Every mistake gets one screen that names it: no traceback, exit code 2, nothing left behind."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run, files, project, run

__all__ = ["project", "run"]

# Arguments, and what the message must say. None of these needs TensorFlow.
CONFIGURATION = {
    "no run": (["run_dir=nowhere", "mode=test"], ["There is no run in nowhere", "task=<name>"]),
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
    "several values": (["task=mine", "seed=1,2"], ["several values: 1,2", "Add -m to run each"]),
    "several tasks": (["task=mine,parts"], ["several values: mine,parts", "run each of them.\n"]),
    "several of a list": (
        ["task=mine", "metrics=mse,mae"],
        ["several values: mse,mae", "-m", "metrics=[mse,mae]"],
    ),
    "added to no group": (
        ["task=mine", "+trainr.max_epochs=1"],
        ["Nothing reads", "'trainr.max_epochs'", "Did you mean 'trainer.max_epochs'?"],
    ),
    "added to the trainer": (
        ["task=mine", "+trainer.max_epoch=1"],
        ["Nothing reads", "Did you mean 'trainer.max_epochs'?"],
    ),
    "added at the root": (["task=mine", "+foo=1"], ["Nothing reads", "'foo'", "optimizer"]),
    "added by force": (["task=mine", "++optimzer.x=1"], ["Did you mean 'optimizer.x'?"]),
    "added in a sweep": (["-m", "task=mine", "+foo=1,2"], ["Nothing reads", "'foo'"]),
    "added twice": (["task=mine", "+seed=3"], ["seed already exists", "Write seed=3."]),
    "null for a choice": (["task=mine", "data=null"], ["data=null", "Write data=none."]),
    "null for a list": (["task=mine", "loggers=null"], ["loggers=null", "Write loggers=[]."]),
    "removed option": (
        ["task=mine", "~trainer.max_epochs"],
        ["trainer.max_epochs cannot be removed", "trainer.max_epochs=<value>"],
    ),
    "removed nothing": (["task=mine", "~task.unit"], ["no 'task.unit' to remove"]),
    "sweep_dir of one run": (["task=mine", "sweep_dir=s"], ["sweep_dir is for sweeps", "Add -m"]),
    "unknown section": (["task=mine", "--cfg", "jb"], ["cannot show 'jb'", "'job'"]),
    "half precision": (
        ["task=mine", "trainer.precision=float16"],
        ["'float16'", "Did you mean 'mixed_float16'?"],
    ),
    "checkpoint that is not there": (
        ["task=mine", "checkpoint=nope"],
        ["no checkpoint 'nope'", "step-… directory"],
    ),
    "checkpoint of no run": (["task=mine", "checkpoint=last"], ["no run", "run_dir=<run>"]),
    "checkpoint of a new run": (
        ["task=mine", "mode=test", "checkpoint=best", "run_dir=a"],
        ["no run", "where: a"],
    ),
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
    "number for a switch": (
        ["task=mine", "weights_only=7.5"],
        ["weights_only", "'7.5'", "true or false"],
    ),
    "debug as a switch": (["task=mine", "debug=true"], ["debug=true", "Write -v", "overfit"]),
    "debug of another name": (["task=mine", "debug=7.5"], ["no debug '7.5'", "fast, overfit"]),
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
    "option of a value": (["task=mine", "seed.x=1"], ["seed is a single value"]),
    "option of the task": (["task=mine", "task.unit=2"], ["'task.unit'", "'task.units'"]),
    "value left open": (["task=blank"], ["task.units"]),
    "typo in the task's file": (["task=typo"], ["max_epoch", "typo.yaml"]),
    "hidden task": (["task=_base"], ["no task '_base'", "mine"]),
    "shared run directory": (["-m", "task=mine", "seed=1,2", "run_dir=a"], ["sweep_dir=a"]),
    "evaluating nothing": (["task=mine", "mode=test", "run_dir=runs/a"], ["no run to test"]),
    "directory of something else": (["task=mine", "run_dir=conf"], ["not a run directory", "conf"]),
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
    "no task": (["task=notask"], ["NoTask is not a Task"]),
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
    "rate below 0": (
        ["task=mine", "optimizer.learning_rate=-1"],
        ["optimizer.learning_rate is -1", "Give 0 or more."],
    ),
    "beta out of range": (
        ["task=mine", "optimizer.beta_1=7"],
        ["optimizer.beta_1 is 7.0", "from 0 to below 1"],
    ),
    "momentum out of range": (
        ["task=mine", "optimizer=sgd", "optimizer.momentum=2"],
        ["optimizer.momentum is 2.0", "from 0 to 1"],
    ),
    "epsilon below 0": (
        ["task=mine", "optimizer.epsilon=-1e-7"],
        ["optimizer.epsilon is -1e-07", "Give 0 or more."],
    ),
    "decay below 0": (
        ["task=mine", "optimizer=adamw", "optimizer.weight_decay=-0.1"],
        ["optimizer.weight_decay is -0.1"],
    ),
    "norm of 0": (["task=mine", "optimizer.clipnorm=0"], ["optimizer.clipnorm is 0.0", "above 0"]),
    "loss not used": (["task=mine", "loss=mse"], ["Mine never uses self.loss", "mine.py:"]),
    "metrics not used": (
        ["task=mine", "metrics=[mae]"],
        ["Mine never uses self.metrics", "self.log_metrics"],
    ),
    "added callback without a class": (
        ["task=mine", "+callbacks.early_stoping.patience=3"],
        ["callbacks.early_stoping has no _target_", "'early_stopping'"],
    ),
    "added to no choice": (
        ["task=parts", "+data.batch_size=3"],
        ["nothing is chosen", "data=<mnist"],
    ),
    "monitored but never validated": (
        ["task=mine", "callbacks=early_stopping", "trainer.val_every=null"],
        ["val/loss is monitored, but val_every is null", "trainer.val_every=1ep"],
    ),
    "monitored but no batch validated": (
        ["task=mine", "callbacks=early_stopping", "trainer.limit_val_batches=0"],
        ["val/loss is monitored, but limit_val_batches is 0"],
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


def test_a_flag_shows_the_traceback(run: Run) -> None:
    for flag in ("-v", "--verbose"):
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

    def full(path: Path, flags: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    before = files(project)
    monkeypatch.setattr("framework.cli.run_dir.ours", full)
    monkeypatch.setattr("framework.cli.one_run._assemble", None)
    code, _, err = run("task=mine", "run_dir=out/a")
    assert code == 2
    assert "No space left on device" in err
    assert files(project) == before


def test_a_part_that_a_helper_of_the_task_reads_is_used(run: Run, project: Path) -> None:
    (project / "cliproj/helped.py").write_text(
        "from cliproj.mine import Mine\n\n\n"
        "def value(task, batch):\n    return task.loss(batch[1], task.model(batch[0]))\n\n\n"
        "class Helped(Mine):\n    def train_step(self, batch):\n"
        "        return value(self, batch)\n"
    )
    (project / "conf/task/helped.yaml").write_text("_target_: cliproj.helped.Helped\n")
    code, _, err = run("task=helped", "loss=mse", "trainer.fast_dev_run=true")
    assert code == 0, err


def test_a_whole_number_is_a_learning_rate(run: Run) -> None:
    code, _, err = run("task=mine", "optimizer.learning_rate=1", "trainer.fast_dev_run=true")
    assert code == 0, err
