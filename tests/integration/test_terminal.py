"""A whole run on the terminal: its first line, its last lines, and nothing of TensorFlow's."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from cli_project import Run, project, run
from places import ROOT

__all__ = ["project", "run"]

FIRST = """
    import sys
    from framework.cli import main

    class Tap:
        loaded = None

        def write(self, text):
            if self.loaded is None:
                self.loaded = "tensorflow" in sys.modules
            return sys.__stdout__.write(text)

        def __getattr__(self, name):
            return getattr(sys.__stdout__, name)

    sys.stdout = tap = Tap()
    code = main(sys.argv[1:])
    assert "tensorflow" in sys.modules
    sys.exit(code or (4 if tap.loaded else 0))
"""
SCRIPT = """
    from framework import Trainer
    import tensorflow as tf
    assert float(tf.reduce_sum(tf.ones((3, 3)) @ tf.ones((3, 3)))) == 27.0
"""


def python(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith("TF_")}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    command = [sys.executable, "-c", textwrap.dedent(code), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, env=env)


def test_the_first_line_comes_before_tensorflow_and_its_messages_never_do(project: Path) -> None:
    words = ["trainer.max_epochs=2", "trainer.engine=graph", "run_dir=r"]
    done = python(FIRST, "task=mine", *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "mine  r  starting TensorFlow ..."
    assert done.stderr == ""
    for line in (
        "model    Sequential, 4 parameters (16 bytes), 4 trainable",
        "data     100 train, 20 val, 40 test rows",
        "runs on  CPU:0, float32, engine graph",
    ):
        assert line in lines


def test_a_script_sees_no_messages_either(project: Path) -> None:
    done = python(SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_run_ends_with_its_table_and_with_commands_that_work(run: Run, project: Path) -> None:
    words = ["trainer.engine=graph", "trainer.enable_model_summary=false"]
    code, out, err = run("task=mine", "trainer.max_epochs=2", "run_dir=p/a", *words, plain=True)
    assert code == 0, err
    lines = out.splitlines()
    assert "mine  p/a" in lines
    table = lines.index("       train     val    test")
    assert lines[table + 1].split()[0] == "loss"
    assert len(lines[table + 1].split()) == 4
    assert lines[table + 3].startswith("best  epoch 2, step 20: val loss ")
    assert "Run directory: p/a" in lines
    assert "To compare" not in out
    (line,) = [line for line in lines if line.startswith("To continue: ")]
    command = shlex.split(line.removeprefix("To continue: python -m framework"))
    assert "trainer.max_epochs=4" in command
    assert "trainer.max_epochs=2" not in command
    code, out, err = run(*command, plain=True)
    assert code == 0, err
    assert "resuming from" in out
    assert "epoch 4/4  loss" in out
    code, out, err = run("task=mine", "trainer.max_steps=5", "run_dir=p/b", *words, plain=True)
    assert code == 0, err
    assert "To compare: tensorboard --logdir p" in out.splitlines()
    assert "trainer.max_steps=10" in out


@pytest.mark.parametrize("verbosity", [0, 1, 2])
def test_verbosity_says_how_much_is_shown(run: Run, project: Path, verbosity: int) -> None:
    words = ["task=mine", "trainer.max_epochs=1", "trainer.engine=graph", "run_dir=r"]
    code, out, err = run(*words, f"verbosity={verbosity}", plain=True)
    assert (code, err) == (0, "")
    assert bool(out) == (verbosity > 0)
    assert ("Run directory: r" in out) == (verbosity > 0)
    assert ("epoch 1, step 10:  train/loss" in out) == (verbosity > 1)
    assert "epoch 1, step 10:  train/loss" in (project / "r/log.txt").read_text()
    if not verbosity:
        code, _, err = run(*words, "seed=1", "verbosity=0", plain=True)
        assert code == 2
        assert err.startswith("error: The run there was started with another configuration")
        code, out, _ = run("-m", *words[:-1], "seed=1,2", "sweep_dir=s", "verbosity=0", plain=True)
        assert (code, out) == (0, "")
    else:
        code, out, err = run(*words, "verbosity=3", plain=True)
        assert (code, out) == (2, "")
        assert "verbosity is 3" in err
