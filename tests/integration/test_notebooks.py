"""Runs in a real Jupyter kernel: what a cell shows, interrupts, cells run again; the examples."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel import Kernel, Shown, started_kernel
from places import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("*.ipynb"))

# The pauses only make the run long enough to be interrupted; they change no bit of it.
SETUP = """
import time
from framework import Callback, Data, Every, Task, Trainer
import keras
import numpy as np

class Digits(Task):
    def build_model(self):
        layers = keras.layers
        return keras.Sequential([layers.Dense(16), layers.Dropout(0.3), layers.Dense(1)])

    def train_step(self, batch):
        return keras.ops.mean((self.model(batch[0], training=True) - batch[1]) ** 2)

    def eval_step(self, batch):
        self.log("loss", keras.ops.mean((self.model(batch[0], training=False) - batch[1]) ** 2))

class Pauses(Callback):
    every = Every("5st")
    def on_wake(self, run):
        time.sleep(0.04)

rng = np.random.default_rng(0)
x = rng.normal(size=(800, 10)).astype("float32")
data = Data(train=(x, x[:, :1]), val_fraction=0.2)

def fit(run_dir, epochs=8, **options):
    task = Digits()
    Trainer(max_epochs=epochs, run_dir=run_dir, log_every="5st", **options).fit(task, data)
    return task.model.get_weights()
"""

COUNTS = """
import atexit, collections, gc, logging, signal, threading

def counts():
    gc.collect()
    kinds = collections.Counter(
        f"{type(o).__module__}.{type(o).__name__}" for o in gc.get_objects()
        if str(type(o).__module__).startswith("framework.") or type(o).__name__ == "FuncGraph"
    )
    loggers = [logging.root, *logging.root.manager.loggerDict.values()]
    return {
        "threads": threading.active_count(),
        "at exit": atexit._ncallbacks(),
        "signals": [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM)],
        "handlers": sum(len(getattr(each, "handlers", ())) for each in loggers),
        "objects": dict(kinds),
    }
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    with started_kernel(tmp_path_factory.mktemp("kernel")) as kernel:
        shown = kernel.run(SETUP)
        # TensorFlow's messages do not reach the cell that imports it.
        assert (shown.error, shown.printed) == (None, {"stdout": "", "stderr": ""})
        yield kernel


def area(shown: Shown) -> dict[str, str]:
    """The one output that a fit leaves; the one of its first moment is empty."""
    (last,) = [each for each in shown.areas.values() if each["text/plain"]]
    return last


def test_a_run_has_one_output_that_is_redrawn(kernel: Kernel) -> None:
    shown = kernel.run("_ = fit(None, epochs=3, callbacks=[Pauses()])")
    assert shown.error is None
    assert shown.printed["stderr"] == ""
    assert "epoch" not in shown.printed["stdout"]  # only the summary is there
    assert "dense" in shown.printed["stdout"]
    page = area(shown)
    lines = page["text/plain"].splitlines()
    assert [line.split("  ")[0] for line in lines[:-1]] == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
    assert lines[-1] == "completed: max_epochs=3 reached"
    assert page["text/html"].count("<tr") == 2 + 3
    losses = [float(re.search(r"val loss (\S+)", line)[1]) for line in lines[:-1]]
    best = [line.endswith("best") for line in lines[:-1]]
    assert best == [loss == min(losses) for loss in losses]  # no two are equal
    assert "data:image/svg+xml;base64," in page["text/html"]
    bars = [each for each in shown.displays if "flex" in each["text/html"]]
    assert len(bars) > 2
    assert "flex" not in page["text/html"]  # the bar is gone at the end


def test_an_interrupted_cell_saves_and_fit_continues_with_the_same_bits(kernel: Kernel) -> None:
    shown = kernel.run(
        "_ = fit('broken', callbacks=[Pauses()])",
        interrupt=lambda shown: any("epoch 3/8" in d["text/plain"] for d in shown.displays),
    )
    assert shown.error == ("KeyboardInterrupt", ["KeyboardInterrupt"])
    assert area(shown)["text/plain"].splitlines()[-1].startswith("interrupted: ")
    assert area(shown)["text/plain"].endswith("Fit again to continue.")
    stopped = kernel.value("__import__('json').load(open('broken/result.json'))['global_step']")
    assert 40 <= stopped < 160  # epochs of 20 steps: neither at the start nor at the end

    again = kernel.run("continued = fit('broken')")
    assert again.error is None
    assert "epoch 1/8" not in area(again)["text/plain"]
    kernel.run("whole = fit('whole')")
    same = "[bool(np.array_equal(a, b)) for a, b in zip(continued, whole, strict=True)]"
    assert kernel.value(same) == [True] * 4


def test_an_interrupt_before_training_leaves_the_kernel_as_it_was(kernel: Kernel) -> None:
    before = kernel.value("str(__import__('signal').getsignal(2))")
    shown = kernel.run(
        "print('now', flush=True)\nwhile True: _ = fit(None, epochs=1)",
        interrupt=lambda shown: "now" in shown.printed["stdout"],
    )
    assert shown.error is not None
    assert shown.error[0] == "KeyboardInterrupt"
    assert kernel.value("str(__import__('signal').getsignal(2))") == before
    assert kernel.run("_ = fit(None, epochs=1)").error is None


def test_a_cell_that_runs_again_leaves_nothing_behind(kernel: Kernel) -> None:
    kernel.run(COUNTS)
    found = []
    for _ in range(4):
        assert kernel.run("weights = fit('again', epochs=1)").error is None
        kernel.run("import shutil; shutil.rmtree('again')")
        found.append(kernel.value("counts()"))
    assert found[1] == found[2]
    assert found[2] == found[3]


def test_a_mistake_is_shown_without_a_traceback(kernel: Kernel) -> None:
    shown = kernel.run("Trainer(max_epocs=3)")
    assert shown.error is not None
    name, lines = shown.error
    assert (name, len(lines)) == ("UserError", 1)
    assert lines[0].splitlines()[0] == "UserError: Trainer has no option 'max_epocs'"


def source_cells(path: Path) -> list[dict[str, Any]]:
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.stem for path in EXAMPLES])
def test_examples_are_stored_without_outputs(path: Path) -> None:
    for cell in source_cells(path):
        assert (cell["outputs"], cell["execution_count"]) == ([], None)


@pytest.fixture
def run_example(kernel: Kernel, tmp_path: Path) -> Any:
    """Run an example from the start, in a directory of its own."""

    def run(name: str) -> list[Shown]:
        kernel.run("%reset -f")
        kernel.run(f"import os; os.chdir({str(tmp_path)!r})")
        shown = []
        for cell in source_cells(ROOT / "examples" / f"{name}.ipynb"):
            shown.append(kernel.run("".join(cell["source"])))
            assert shown[-1].error is None, (cell["source"], shown[-1].error)
        return shown

    yield run
    kernel.run(f"%reset -f\nimport os; os.chdir({str(tmp_path.parent)!r})")
    kernel.run(SETUP)


def test_every_example_is_run() -> None:
    assert [path.stem for path in EXAMPLES] == ["compare_a_sweep", "lesson", "own_task"]


def test_the_lesson_ends_with_the_same_numbers_in_all_ways(run_example: Any) -> None:
    shown = run_example("lesson")
    printed = next(s.printed["stdout"] for s in shown if "taped" in s.printed["stdout"])
    ways = dict(line.split(maxsplit=1) for line in printed.splitlines())
    assert list(ways) == ["sequential", "functional", "subclassed", "taped"]
    assert len(set(ways.values())) == 1
    assert eval(ways["taped"])["test/accuracy"] > 0.3  # 0.1 by chance
    assert any("image/png" in each for each in shown[-1].displays)


def test_an_own_task_learns_the_truth(run_example: Any) -> None:
    shown = run_example("own_task")
    continued = next(s for s in shown if any("epoch 16/20" in str(d) for d in s.displays))
    assert "epoch 15/" not in str(continued.displays)
    numbers = [line.split()[-1] for line in shown[-1].printed["stdout"].splitlines()]
    worst, spread, within = (float(number.rstrip("%")) for number in numbers)
    assert worst < 0.3
    assert spread < 0.05
    assert 90 <= within <= 99


def test_a_sweep_is_compared(run_example: Any, tmp_path: Path) -> None:
    shown = run_example("compare_a_sweep")
    assert shown[3].displays == []  # loggers get the model's summary, and the cell does not
    table = next(d["text/markdown"] for s in shown for d in s.displays if "text/markdown" in d)
    rows = [line.split("|") for line in table.splitlines()[2:]]
    assert [(row[1].strip("* "), row[2].strip("* ")) for row in rows] == [
        ("2", rate) for rate in ("0.003", "0.03", "0.0003")
    ]
    # The mean of two seeds, from what the runs left.
    results = [
        json.loads(path.read_text())["metrics"]["val/accuracy"]
        for path in tmp_path.glob("runs/sweep/rate=0.003_*/result.json")
    ]
    assert len(results) == 2
    assert float(re.search(r"0\.\d+", rows[0][4])[0]) == pytest.approx(sum(results) / 2, abs=1e-4)
    assert any("image/png" in each for each in shown[-1].displays)
