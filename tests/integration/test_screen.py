"""What a person sees of a whole run: plain lines that fit, and the way to go on."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from cli_project import Run, project, run
from helpers import Net, acts, blobs, make_trainer
from places import ROOT
from rich.console import Console

from framework import Callback, Data
from framework.callbacks.model_summary import ModelSummary
from framework.callbacks.progress_bar import ProgressBar
from framework.trainer import Trainer

__all__ = ["project", "run"]


def test_force_color_puts_no_control_characters_into_a_file(tmp_path):
    code = """
        import sys
        sys.path.insert(0, "tests/support")
        from fake_run import Clock, FakeTrainer
        from framework.callbacks.progress_bar import ProgressBar
        from framework.callbacks.early_stopping import EarlyStopping
        bar, trainer, clock = ProgressBar(), FakeTrainer(), Clock()
        bar.on_fit_start(trainer)
        bar.on_epoch_start(trainer)
        trainer.train(bar, 100, clock, 1.0, loss=2.0)
        bar.on_wake(trainer)
        trainer.validate(bar, clock, 1.0, loss=2.0)
        trainer.end_epoch(bar)
        bar.on_fit_end(trainer)
        assert "tensorflow" not in sys.modules
    """
    env = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", "PYTHONIOENCODING": "ascii"}
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=ROOT,
        env={**env, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert out.returncode == 0, out.stderr
    assert re.fullmatch(r"epoch 1/2  loss 2\.0000  val loss 2\.0000  [^\x00-\x1f]+\n", out.stdout)


QUICK = ("trainer.max_steps=2", "trainer.engine=graph")


class Named(Net):
    """Names of its own for everything that is shown."""

    def __init__(self, name: str) -> None:
        super().__init__(optimizer="sgd")
        self.name = name

    def eval_step(self, batch: tuple[np.ndarray, np.ndarray]) -> None:
        super().eval_step(batch)
        self.log(self.name, 1.0)


@pytest.mark.parametrize("live", [True, False])
def test_the_bar_and_the_summary_are_plain(live: bool) -> None:
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=live, width=200, color_system=None, legacy_windows=False
    )
    bar, summary = ProgressBar(console, live=live), ModelSummary(console=console)
    data = Data(train=blobs(16), val=blobs(8), batch_size=8)
    name = "[red]m[/red]\x1b[2J\x07"
    make_trainer(callbacks=[bar, summary], max_epochs=1).fit(Named(name), data)
    out = stream.getvalue()
    assert "val [red]m[/red]\\x1b[2J\\x07 1.0000" in out
    assert "\x1b[2J" not in out
    assert "\x07" not in out


def test_a_whole_run_is_plain(run: Run, project: Path) -> None:
    (project / "conf/task/evil\x1b[2J.yaml").write_text("# A \x1b]0;t\x07 task.\n")
    mine = (project / "cliproj/mine.py").read_text()
    mine = mine.replace('raise RuntimeError("boom', 'raise RuntimeError("\\x1b[2J[/b]boom')
    (project / "cliproj/mine.py").write_text(mine)
    calls = {
        ("--help",): 0,
        ("task=mine", "+task.fail='\x1b[2J'", "run_dir='r[/x]'", *QUICK): 0,
        ("task=mine", "+task.fail='[/b]\u202e'", "run_dir='r[/x]'", *QUICK): 2,
        ("task=mine", "+task.fail=epoch", "run_dir=e", *QUICK): 1,
        ("task=mine", "+task.fail=epoch", "-v", "run_dir=d", *QUICK): 1,
        ("-m", "task=mine", "+task.fail='\x1b[2J','[/data]'", "sweep_dir='s[/b]'", *QUICK): 0,
        ("task=mine\x1b[2J",): 2,
        ("task=mine", "trainer.max\x1bepochs=1"): 2,
    }
    for words, expected in calls.items():
        code, out, err = run(*words, plain=words == ("--help",))
        assert not acts(out + err), words
        assert code == expected, err
    logs = [path.read_text() for path in project.rglob("log.txt")]
    assert any("\\x1b[2J[/b]boom" in text for text in logs)
    assert not any(map(acts, logs))


def test_a_reader_that_goes_does_not_end_a_run(project: Path) -> None:
    words = "task=mine trainer.max_epochs=3 trainer.engine=graph run_dir=r"
    command = f"{sys.executable} -m framework {words} 2>&- | head -1"  # and no standard error
    subprocess.run(["bash", "-c", command], capture_output=True, timeout=600)
    assert '"status": "completed"' in (project / "r/result.json").read_text()
    assert "test/loss" in (project / "r/metrics.csv").read_text()
    assert "oneDNN" not in (project / "r/log.txt").read_text()


@pytest.mark.parametrize("width", [30, 40, 80])
def test_no_line_of_an_epoch_is_cut_by_a_terminal(width: int) -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, color_system=None)
    bar = ProgressBar(console, live=False)
    data = Data(train=blobs(32), val=blobs(8), batch_size=8)
    make_trainer(callbacks=[bar], max_epochs=2).fit(Net(optimizer="sgd"), data)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    words = " ".join(" ".join(lines).split())
    assert re.search(r"epoch 1/2 loss [\d.]+ accuracy [\d.]+ val loss [\d.]+ val accuracy", words)


class Interrupts(Callback):
    """Ctrl-C in the first epoch."""

    def on_train_batch_end(self, trainer: Trainer) -> None:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("place", ["r", "a b", "it's"])
def test_an_interrupted_run_says_how_to_go_on(
    run: Run, project: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from framework.task import Task

    quoted = "run_dir='" + place.replace("'", "\\'") + "'"
    words = ["task=mine", "trainer.max_epochs=2", "trainer.engine=graph", quoted]
    with monkeypatch.context() as patch:
        patch.setattr(Task, "configure_callbacks", lambda self: [Interrupts()])
        code, out, _ = run(*words)
    assert code == 130
    (line,) = [line for line in out.splitlines() if line.startswith("To continue: ")]
    program, typed = line.removeprefix("To continue: ").split(" task=", 1)
    assert program == "python -m framework"
    code, out, err = run(*shlex.split("task=" + typed), plain=True)
    assert code == 0, err
    assert "resuming from" in out
    assert (project / place / "result.json").is_file()


def test_ctrl_c_while_engines_are_tried_is_one_line(project: Path) -> None:
    source = (project / "cliproj/mine.py").read_text()
    # Slow enough to be met: XLA compiles this for seconds.
    source = source.replace(
        "return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(self.units)])",
        "print('building', flush=True)\n        return keras.Sequential([keras.layers.Input((3,)), "
        "*[keras.layers.Dense(64) for _ in range(150)], keras.layers.Dense(self.units)])",
    )
    (project / "cliproj/mine.py").write_text(source)
    words = ["task=mine", "run_dir=r", "trainer.max_epochs=100000", "trainer.retune=true"]
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "framework", *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": str(project / "cache")},
    )
    assert process.stdout is not None
    while "building" not in (line := process.stdout.readline()):
        assert line
    time.sleep(1.0)
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=600)
    assert process.returncode == 130, out
    assert "Traceback" not in out
    assert "Interrupted before there was anything to save." in out or "To continue" in out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_a_library_makes_another_error_of(number: int) -> None:
    class Swallows(Net):
        def build_model(self) -> keras.Model:
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            except BaseException as error:
                raise RuntimeError("in user code") from error
            return super().build_model()

    expected = KeyboardInterrupt if number == signal.SIGINT else SystemExit
    with pytest.raises(expected) as caught:
        make_trainer().fit(Swallows(optimizer="sgd"), Data(train=blobs(8)))
    assert caught.value.__suppress_context__
    assert "build_model" not in [entry.name for entry in caught.traceback]
