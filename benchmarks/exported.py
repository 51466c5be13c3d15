"""Exported files of the tasks, read where nothing but their reader is installed.

Each task is trained for some steps, predicts on the test set, and is exported in every format. Then
each format's reader, in a new virtual environment that has no framework, gets the raw test images.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

COLUMNS = ["task", "rows", "keras", "litert", "onnx"]
TASKS = (
    *("mnist_sequential", "mnist_functional", "mnist_subclass", "cifar100_sequential"),
    *("cifar100_functional", "cifar100_subclass", "cifar100_gradient_tape"),
    *("mnist_vae", "cifar100_distillation"),
)
QUICK = ("cifar100_subclass", "mnist_vae")
BAR = 1e-5
_PATIENCE = 1200
_SHAPES = {"mnist": ((28, 28), 10), "cifar100": ((32, 32, 3), 100)}
_SHORT = ["trainer.max_steps=30", "trainer.engine=graph", "verbosity=0", "loggers=[]"]
_READ = {
    "keras": "answer = keras.saving.load_model(run + '/export/model.keras').predict",
    "litert": (
        "answer = lambda x: Interpreter(run + '/export/model.tflite')"
        ".get_signature_runner()(inputs=x)['predictions']"
    ),
    "onnx": (
        "session = onnxruntime.InferenceSession(run + '/export/model.onnx'); "
        "answer = lambda x: session.run(['predictions'], {'inputs': x})[0]"
    ),
}
_IMPORTS = {
    "keras": "import os; os.environ['KERAS_BACKEND'] = 'jax'; import keras",
    "litert": "from ai_edge_litert.interpreter import Interpreter",
    "onnx": "import onnxruntime",
}
_PACKAGES = {
    "keras": ["keras", "jax"],
    "litert": ["ai-edge-litert", "numpy"],
    "onnx": ["onnxruntime", "numpy"],
}
_SCRIPT = """
import importlib.util, sys
import numpy as np
{imports}
assert not any(map(importlib.util.find_spec, ["framework", "tasks", "hydra"]))
for run in sys.argv[2:]:
    x = np.load(sys.argv[1] + "/" + run.split("/")[-1].partition("_")[0] + ".npz")["x_test"]
    wanted = np.load(run + "/predictions.npz")["predictions"]
    {read}
    parts = [answer(x[i : i + 500]) for i in range(0, len(x), 500)]
    print("difference", run, len(x), np.abs(np.concatenate(parts) - wanted).max())
"""


def measure(
    data_dir: str | None,
    directory: Path,
    tasks: Iterable[str] = TASKS,
    say: Callable[[str], None] = lambda line: None,
) -> list[list[str]]:
    """Return a row for each task: the largest difference from `mode=predict` by format.

    Args:
        data_dir: The directory of `cifar100.npz` and `mnist.npz`; None: random images.
        directory: Where runs and environments go.
        tasks: Which tasks.
        say: Called with a line now and then.
    """
    data = directory / "data"
    data.mkdir()
    for name, (shape, classes) in _SHAPES.items():
        _write_set(data_dir, data / f"{name}.npz", shape, classes)
    runs = {task: directory / task for task in tasks}
    for task, run in runs.items():
        at = f"run_dir={run}"
        _call([sys.executable, "-m", "framework", f"task={task}", f"data.dir={data}", at, *_SHORT])
        _call([sys.executable, "-m", "framework", "mode=predict", at])
        formats = f"export.format=[{','.join(_READ)}]"
        _call([sys.executable, "-m", "framework", "mode=export", at, formats])
        say(f"exports: {task}")
    found = {task: [""] * len(_READ) for task in tasks}
    rows = dict.fromkeys(tasks, "")
    for place, kind in enumerate(_READ):
        python = _environment(directory / f"only-{kind}", _PACKAGES[kind])
        script = _SCRIPT.format(imports=_IMPORTS[kind], read=_READ[kind])
        # -I: whatever PYTHONPATH adds is not there.
        words = [str(python), "-I", "-W", "ignore", "-c", script, str(data)]
        words += map(str, runs.values())
        for line in _call(words, cwd=directory).splitlines():
            if line.startswith("difference "):
                _, run, count, difference = line.split()
                found[Path(run).name][place] = f"{float(difference):.1e}"
                rows[Path(run).name] = count
        say(f"exports: {kind}")
    return [[task, rows[task], *each] for task, each in found.items()]


def missed(rows: list[list[str]]) -> list[str]:
    """Return a line for every difference that is too large, or was not measured."""
    return [
        f"exports: {task} in {kind} differs by {value or 'nothing measured'}, wanted {BAR:g}"
        for task, _, *values in rows
        for kind, value in zip(_READ, values, strict=True)
        if not value or not float(value) <= BAR
    ]


def _write_set(data_dir: str | None, path: Path, shape: tuple[int, ...], classes: int) -> None:
    """Write an image set of 2,000 rows to train on; real images if they are there."""
    given = Path(data_dir or ".") / path.name
    if data_dir is not None and given.is_file():
        with np.load(given) as file:
            arrays = {name: file[name] for name in file.files}
        arrays |= {name: arrays[name][:2000] for name in ("x_train", "y_train")}
    else:
        random, arrays = np.random.default_rng(0), {}
        for name, rows in (("train", 2000), ("test", 1000)):
            arrays[f"x_{name}"] = random.integers(0, 256, (rows, *shape), dtype=np.uint8)
            arrays[f"y_{name}"] = random.integers(0, classes, rows)
    np.savez(path, **arrays)


def _environment(folder: Path, packages: list[str]) -> Path:
    """Create a virtual environment with some packages; return its interpreter."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    _call([str(python), "-m", "pip", "install", "-q", *packages])
    return python


def _call(words: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=_PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words[:6])}:\n{done.stdout[-500:]}{done.stderr[-1500:]}")
    return done.stdout
