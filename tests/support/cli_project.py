"""A project of its own in a temporary directory, for the tests of the command line."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

TASK = """
import time
import keras, numpy as np, tensorflow as tf
from framework import Data, Task


class Mine(Task):
    def __init__(self, units=1, fail="", rows=100, **parts):
        super().__init__(**parts)
        self.units, self.fail, self.rows = units, fail, rows
        if fail == "init":
            raise ValueError("no such units")

    def build_data(self):
        x = np.random.default_rng(0).normal(size=(self.rows, 3)).astype("float32")
        y = x.sum(1, keepdims=True)
        return Data(
            train=(x, y), val=(x[:20], y[:20]), test=(x[20:60], y[20:60]), batch_size=10
        )

    def build_model(self):
        return keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(self.units)])

    def train_step(self, batch):
        x, y = batch
        return tf.reduce_mean((tf.cast(self.model(x, training=True), y.dtype) - y) ** 2)

    def eval_step(self, batch):
        x, y = batch
        self.log("loss", (tf.cast(self.model(x), y.dtype) - y) ** 2)

    def on_epoch_start(self):
        if self.fail == "epoch":
            raise RuntimeError("boom in a hook")
        if self.fail == "slow":
            time.sleep(0.05)


class Closed(Mine):
    def __init__(self, units=1):
        super().__init__(units)


class Tuned(Mine):
    def configure_optimizers(self):
        return keras.optimizers.SGD(0.1)


class Half(Task):
    def build_model(self):
        return None


class NoTask:
    pass


class Needy(Mine):
    def __init__(self, width, **parts):
        super().__init__(**parts)


class Parts(Mine):
    seen = None

    def __init__(self, model=None, **parts):
        super().__init__(**parts)
        Parts.seen = {"model": model, **parts}

    def build_data(self):
        return self.data() if self.data else super().build_data()
"""

FILES = {
    "cliproj/__init__.py": "",
    "cliproj/mine.py": TASK,
    "cliproj/broken.py": "def f(:\n",
    "cliproj/raises.py": "import os\n\nvalue = os.environ['NO_SUCH_VARIABLE']\n",
    "conf/task/mine.yaml": "# A line through points.\n_target_: cliproj.mine.Mine\nunits: 1\n",
    "conf/task/closed.yaml": "_target_: cliproj.mine.Closed\n",
    "conf/task/tuned.yaml": "_target_: cliproj.mine.Tuned\n",
    "conf/task/half.yaml": "_target_: cliproj.mine.Half\n",
    "conf/task/notask.yaml": "_target_: cliproj.mine.NoTask\n",
    "conf/task/needy.yaml": "_target_: cliproj.mine.Needy\n",
    "conf/task/noclass.yaml": "_target_: cliproj.mine.Mien\n",
    "conf/task/nomodule.yaml": "_target_: cliproj.mien.Mine\n",
    "conf/task/syntax.yaml": "_target_: cliproj.broken.Mine\n",
    "conf/task/raises.yaml": "_target_: cliproj.raises.Mine\n",
    "conf/task/parts.yaml": """\
        # @package _global_
        # Takes every part.
        defaults:
          - _base
          - override /optimizer: sgd
        task:
          _target_: cliproj.mine.Parts
        """,
    "conf/task/_base.yaml": """\
        # @package _global_
        defaults:
          - override /loss: mse
          - override /metrics: [mae]
          - override /model: small
          - override /optimizer: adamw
        trainer:
          max_epochs: 2
        """,
    "conf/task/typo.yaml": """\
        # @package _global_
        task:
          _target_: cliproj.mine.Mine
        trainer:
          max_epoch: 2
        """,
    "conf/task/blank.yaml": "_target_: cliproj.mine.Mine\nunits: ???\n",
    "conf/model/small.yaml": "units: 4\nhead: {dropout: 0.5}\n",
}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The project, as the working directory; its modules are forgotten afterwards."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [n for n in sys.modules if n.split(".")[0] == "cliproj"]:
        del sys.modules[name]


def files(root: Path) -> set[str]:
    """Every file and directory below a root, for "nothing was left behind"."""
    return {str(p.relative_to(root)) for p in root.rglob("*") if "__pycache__" not in p.parts}


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(project: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command line in this process: exit code, standard output, standard error."""
    from framework.cli import main

    quiet = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]

    def call(*words: str, plain: bool = False) -> tuple[int, str, str]:
        capfd.readouterr()
        code = main([*words, *([] if plain else quiet)])
        return code, *capfd.readouterr()

    return call


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found
