"""What a person sees: shapes, lines that fit, one order of metrics, the way to go on."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import pytest
from cli_project import Run, project, run
from helpers import Net, blobs, make_trainer
from rich.console import Console

from framework import Callback, Data
from framework.callbacks.display import Display, in_order
from framework.callbacks.progress_bar import ProgressBar
from framework.callbacks.shapes import output_shapes
from framework.cli.help import help_text
from framework.cli.words import again
from framework.trainer import Trainer

__all__ = ["project", "run"]


class Pools(keras.Model):
    """Pooling, dropout, a model within, and a branch, none of which keeps its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = keras.layers.Conv2D(4, 3, name="conv")
        self.pool = keras.layers.MaxPooling2D(name="pool")
        self.drop = keras.layers.Dropout(0.5, name="drop")
        self.inner = keras.Sequential(
            [keras.layers.Conv2D(2, 1), keras.layers.GlobalMaxPooling2D()]
        )
        self.join = keras.layers.Concatenate(name="join")
        self.unused = keras.layers.Dense(7, name="unused")

    def call(self, x: object, training: bool = False) -> object:
        x = self.drop(self.pool(self.conv(x)), training=training)
        return self.join([self.inner(x), self.inner(x)])


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called")
def test_shapes_of_layers_that_keep_none() -> None:
    model = Pools()
    model(keras.KerasTensor((None, 12, 12, 3)))
    weights = model.get_weights()
    shapes = output_shapes(model)
    names = {layer.name: shapes[id(layer)] for layer in model.layers}
    assert names["pool"] == names["drop"] == "(None, 5, 5, 4)"
    assert names["join"] == "(None, 4)"
    assert names["unused"] == "?"
    assert shapes[id(model.inner.layers[1])] == "(None, 2)"
    assert all((a == b).all() for a, b in zip(weights, model.get_weights(), strict=True))
    assert not any("call" in vars(layer) for layer in model.layers)


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


def test_a_file_gets_whole_lines() -> None:
    stream = io.StringIO()
    Display(Console(file=stream, width=20), False, time.monotonic).print_parts(["part"] * 20)
    assert stream.getvalue() == "  ".join(["part"] * 20) + "\n"


def test_metrics_have_one_order() -> None:
    known = ["train/b", "train/loss", "train/b_epoch", "val/z", "val/loss", "val/b"]
    assert list(in_order(dict.fromkeys(["val/z", "val/b", "val/loss"], 0.0), known)) == [
        "val/loss",
        "val/b",
        "val/z",
    ]
    assert list(in_order({"train/b": 0.0, "train/loss": 0.0}, known)) == ["train/loss", "train/b"]


def test_help_has_examples_that_exist_here(run: Run, project: Path, tmp_path: Path) -> None:
    text = help_text(project / "conf")
    examples = re.findall(r"^  python -m framework (.*?)(?:  +#.*)?$", text, re.MULTILINE)
    assert len(examples) == 5
    tasks = {path.stem for path in (project / "conf/task").glob("*.yaml")}
    for line in examples:
        (chosen,) = re.findall(r"task=(\S+)", line)
        assert set(chosen.split(",")) <= tasks
        words = [w for w in shlex.split(line) if w != "-m" and "," not in w]
        assert run("task=mine", *[w for w in words if "task=" not in w], "--cfg", "job")[0] == 0
    assert "task=<task>" in help_text(tmp_path / "nowhere")


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
    assert "continuing from" in out
    assert (project / place / "result.json").is_file()


def test_the_command_again() -> None:
    words = ["-m", "task=mine", "task.x=[a,b]", "sweep_dir=old"]
    assert again(words, sweep_dir=Path("s/1")) == (
        "python -m framework -m task=mine 'task.x=[a,b]' sweep_dir=s/1"
    )


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
    assert "Interrupted before there was anything to keep." in out or "To continue" in out


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
