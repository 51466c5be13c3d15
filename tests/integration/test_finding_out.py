"""The modes and groups that find something out, on the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_project import Run, files, project, result, run
from places import ROOT

__all__ = ["project", "run"]

FINDING = """
import keras, numpy as np, tensorflow as tf
from framework import Data, Task


def load(batch_size=32, width=64, rows=4000, augment=None):
    x = np.random.default_rng(0).normal(size=(rows, width)).astype("float32")
    y = x[:, :1] + x[:, 1:2]
    return Data(train=(x, y), val=(x[:9], y[:9]), batch_size=batch_size, augment=augment)


def shift(batch, seed):
    return batch[0] + 100.0, batch[1]


class Wide(Task):
    def __init__(self, hungry=False, **parts):
        super().__init__(**parts)
        self.hungry = hungry

    def build_model(self):
        return keras.Sequential([keras.Input((64,)), keras.layers.Dense(1)])

    def train_step(self, batch):
        x, y = batch
        loss = tf.reduce_mean((self.model(x) - y) ** 2)
        if self.hungry:  # 16 MB per row
            rows = tf.fill([tf.shape(x)[0], 4_000_000], tf.reduce_max(x))
            loss += 0.0 * tf.reduce_mean(rows)
        self.log("largest", tf.reduce_max(x))
        return loss

    def eval_step(self, batch):
        self.log("loss", (self.model(batch[0]) - batch[1]) ** 2)
"""
CONF = {
    "conf/task/wide.yaml": "_target_: cliproj.wide.Wide\nhungry: false\n",
    "conf/data/wide.yaml": """\
_target_: cliproj.wide.load
_partial_: true
batch_size: 32
augment:
  _target_: cliproj.wide.shift
  _partial_: true
""",
    "conf/experiment/both.yaml": """\
# @package _global_
# A wide task with SGD.
defaults:
  - override /task: parts
  - override /optimizer: sgd
  - override /metrics: [mse]
optimizer:
  momentum: 0.5
trainer:
  max_epochs: 3
""",
    "conf/experiment/_base.yaml": "# @package _global_\n",
}


@pytest.fixture
def wide(project: Path) -> Path:
    for name, text in {**CONF, "cliproj/wide.py": FINDING}.items():
        path = project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return project


WIDE = ("task=wide", "data=wide", "data.augment=null")


def test_lr_find_gives_words_that_run_and_leaves_the_curve(wide: Path, run: Run) -> None:
    code, out, err = run(*WIDE, "mode=lr_find", "run_dir=r", "lr_find.max=100")
    assert (code, err) == (0, "")
    (words,) = re.findall(r"^  (optimizer\.learning_rate=\S+)$", out, re.MULTILINE)
    assert {"lr_find.csv", "lr_find.png", "config.yaml"} <= {p.name for p in Path("r").iterdir()}
    assert not {"checkpoints", "result.json"} & {p.name for p in Path("r").iterdir()}
    events = b"".join(p.read_bytes() for p in Path("r").rglob("events.out.*"))
    assert b"lr_find" in events
    assert b"\x89PNG" in events
    # A run may follow in the same directory, with the rate that was suggested.
    assert run(*WIDE, words, "run_dir=r", "trainer.max_steps=2")[0] == 0
    # And the rate that `auto` finds is the same; the same command continues with it.
    auto = (*WIDE, "optimizer.learning_rate=auto", "lr_find.max=100", "run_dir=a")
    code, out, _ = run(*auto, "trainer.max_steps=2")
    rate = float(words.partition("=")[2])
    assert code == 0
    assert f"learning rate: {rate:g}, found in" in out
    code, out, _ = run(*auto, "trainer.max_steps=4")
    assert code == 0
    assert "found in" not in out
    assert "resuming" in out
    assert result(Path("a"))["found_rates"] == {"optimizer": rate}
    assert run("run_dir=a", "mode=validate")[0] == 0


def test_auto_and_a_schedule_exclude_each_other(wide: Path, run: Run) -> None:
    words = ("optimizer.learning_rate=auto", "schedule=warmup_cosine")
    code, _, err = run(*WIDE, *words)
    assert code == 2
    assert "a schedule would replace" in err
    assert not Path("runs").exists()


def test_summary_prints_costs_and_writes_nothing(wide: Path, run: Run) -> None:
    before = files(wide)
    code, out, _ = run(*WIDE, "mode=summary", "data.batch_size=10")
    assert code == 0
    assert files(wide) == before
    assert re.search(r"dense +Dense +\(None, 1\) +65 +128$", out, re.MULTILINE)
    # One product forward; in training another, for the gradient of the kernel.
    assert "128 in an evaluation, 256 in a training step" in out
    assert "activations: 4 B per example, 40 B for a batch of 10" in out
    assert "260 B of weights, 532 B of optimizer state" in out  # 2 x 260, the rate 4, the count 8
    assert "?" not in out.partition("FLOPs per example")[0]


def trials(wide: Path, *words: str, limit: int | None = None) -> tuple[int, str]:
    command = f"{sys.executable} -m framework mode=batch_size_find {' '.join([*WIDE, *words])}"
    shell = f"ulimit -v {limit}; {command}" if limit else command
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{wide}"}
    done = subprocess.run(
        ["bash", "-c", shell], env=env, cwd=wide, capture_output=True, text=True, timeout=300
    )
    return done.returncode, done.stdout + done.stderr


def test_batch_size_find_under_a_limit_answers(wide: Path) -> None:
    before = files(wide)
    fixed = "batch_size_find.by=throughput batch_size_find.steps=2 "
    fixed += "task.hungry=true trainer.engine=graph data.batch_size=160"
    code, out = trials(wide, fixed, limit=5_000_000)
    assert code == 0, out
    found = [int(size) for size in re.findall(r"^  data\.batch_size=(\d+)$", out, re.MULTILINE)]
    assert len(found) == 1
    assert "out of memory" in out
    # A batch takes at least its rows of 16 MB each, from less than 5 GB.
    assert 1 <= found[0] < 5_000 / 16
    assert files(wide) == before


def test_a_mistake_in_the_task_is_not_taken_for_a_lack_of_memory(wide: Path) -> None:
    code, out = trials(wide, "+task.nonsense=1")
    assert code == 2
    assert "not for lack of memory" in out
    assert "nonsense" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("batch_size_find.by=speed",), "memory, throughput"),
        (("batch_size_find.max=3",), "Give 32 or more"),
        (("batch_size_find.timeout=3",), "30s"),
        (("-m", "seed=1,2"), "one batch size at a time"),
    ],
)
def test_wrong_options(wide: Path, run: Run, words: tuple[str, ...], said: str) -> None:
    code, _, err = run(*WIDE, "mode=batch_size_find", *words)
    assert code == 2
    assert said in err
    assert run("task=mine", "mode=batch_size_find")[2].startswith("error: there is no data.batch")


def test_debug(wide: Path, run: Run) -> None:
    before = files(wide)
    assert run("task=wide", "data=wide", "debug=fast")[0] == 0
    assert files(wide) == before
    words = ("task=wide", "data=wide", "trainer.max_epochs=7", "data.batch_size=8", "run_dir=o")
    assert run(*words, "debug=overfit")[0] == 0
    found = result(Path("o"))
    assert found["global_step"] == 7  # one batch an epoch; the command line wins
    assert found["metrics"]["train/largest"] < 10  # not augmented
    code, out, _ = run("task=wide", "debug=nan", "--cfg", "job", plain=True)
    assert code == 0
    assert "detect_anomaly: true" in out
    code, out, _ = run("task=wide", "debug=profile", "--cfg", "job", plain=True)
    assert code == 0
    assert "profiler: trace" in out
    for old in ("debug=true", "debug=False"):
        code, _, err = run("task=wide", old)
        assert code == 2
        assert "Write -v to see tracebacks" in err
    code, _, err = run("task=wide", "debug=overfitt")
    assert code == 2
    assert "Did you mean 'overfit'? Choose one of: none, fast, overfit" in err


def test_a_run_of_before_is_still_opened(wide: Path, run: Run) -> None:
    assert run("task=mine", "run_dir=r", "trainer.max_epochs=1")[0] == 0
    config = Path("r/config.yaml")
    text = re.sub(r"^(lr_find|batch_size_find):\n(  .*\n)+", "", config.read_text(), flags=re.M)
    text = re.sub(r"^  auto_lr: .*\n", "", text, flags=re.M)
    config.write_text(f"debug: false\n{text}")
    assert "lr_find" not in text
    assert "auto_lr" not in text
    assert run("run_dir=r", "mode=test")[0] == 0
    assert run("task=mine", "run_dir=r", "trainer.max_epochs=2")[0] == 0


def test_an_experiment_wins_over_the_task_and_the_command_line_over_both(
    wide: Path,
    run: Run,
) -> None:
    code, out, _ = run("experiment=both", "trainer.max_epochs=1", "run_dir=e")
    assert code == 0, out
    config = Path("e/config.yaml").read_text()
    assert "keras.optimizers.SGD" in config
    assert "momentum: 0.5" in config
    assert re.search(r"^metrics:\n  mse:", config, re.M)
    assert "mae" not in config
    assert result(Path("e"))["epoch"] == 1
    assert run("run_dir=e", "mode=test")[0] == 0
    code, out, _ = run("experiment=both", "optimizer=adam", "--cfg", "job", plain=True)
    assert code == 0
    assert "keras.optimizers.Adam" in out
    assert "momentum: 0.5" not in out
    code, _, err = run("experiment=bot")
    assert code == 2
    assert "There is no experiment 'bot'" in err
    assert "Did you mean 'both'? Choose one of: none, both." in err
    code, out, _ = run("--help", plain=True)
    assert "both  A wide task with SGD." in out
    assert "_base" not in out


def test_the_lessons_experiments_compose(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    from framework.cli import main

    monkeypatch.chdir(ROOT)
    for path in (ROOT / "conf" / "experiment").glob("*.yaml"):
        assert main([f"experiment={path.stem}", "--cfg", "job"]) == 0
        out = capfd.readouterr().out
        assert "Cifar100Subclass" in out
        assert "batch_size: 128" in out
