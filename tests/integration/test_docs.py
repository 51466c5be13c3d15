"""What README and docs/ show runs as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import make_trainer
from places import ROOT

import framework
from framework import Data

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands() -> list[tuple[str, str]]:
    """Every `python -m framework …` of every page, with its page."""
    found = []
    for page in PAGES:
        for block in blocks(page, "sh"):
            lines = block.replace("\\\n", " ").splitlines()
            found += [(page.name, line) for line in lines if "-m framework " in line]
    return found


def test_the_readmes_example_is_15_lines_and_runs(tmp_path: Path) -> None:
    (example,) = (b for b in blocks(ROOT / "README.md", "python") if "class Line" in b)
    assert len([line for line in example.splitlines() if line.strip()]) <= 15
    (tmp_path / "line.py").write_text(example)
    done = subprocess.run(
        [sys.executable, "line.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    metrics = eval(done.stdout.splitlines()[-1])
    # Noise-free: the line is learnt.
    assert metrics["val/error"] < 1e-3
    assert {p.name for p in tmp_path.iterdir()} == {"line.py"}


def test_the_pages_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 8, 8)).astype("float32")
    y = rng.integers(0, 10, 64)
    names: dict[str, Any] = {name: getattr(framework, name) for name in framework.__all__}
    names |= {"keras": keras, "tf": tf, "np": np, "x": x, "y": y, "x_new": x[:4]}
    names |= {f"{n}{end}": v for n, v in (("x", x), ("y", y)) for end in ("_val", "_test", 1, 2)}
    for page in PAGES:
        for block in blocks(page, "python"):
            if page.name == "README.md":
                continue
            if "task," in block:
                names["task"] = names["Digits"](units=4)
            source = block.replace("data=…, ", "")
            exec(compile(source, f"{page.name}", "exec"), names)
    for task in (names["Digits"](units=4), names["Taped"](units=4)):
        metrics = make_trainer(max_steps=2).fit(task, Data(train=(x, y), val=(x, y)))
        assert metrics.keys() >= {"train/loss", "val/accuracy"}
    points = Data(train=(rng.normal(size=(64, 2)).astype("float32"),))
    assert "train/critic_loss" in make_trainer(max_steps=2).fit(names["Adversarial"](), points)


@pytest.mark.parametrize(("page", "line"), commands())
def test_a_command_composes(page: str, line: str, capfd: pytest.CaptureFixture[str]) -> None:
    from framework.cli import main

    words = shlex.split(line.partition("framework ")[2].partition("#")[0].replace("~", "/home/x"))
    if "…" in line or "--help" in words:
        return
    # Of a sweep the first job stands for all; where the sweep goes is nothing that a job knows.
    # A launcher is an extra, and no job knows of it either, nor of the search that asks for it.
    elsewhere = ("sweep_dir=", "hydra/launcher=", "hydra.launcher.", "search")
    words = [w for w in words if w not in ("-m", "&&") and not w.startswith(elsewhere)]
    words = [re.sub(r"=tag\(log,interval\(([^,]+),.*", r"=\1", w) for w in words]
    words = [w if "[" in w or "{" in w else w.split(",")[0] for w in words]
    if any(w.startswith("task=mine") for w in words):
        return  # a project elsewhere: test_cli_wheel.py
    if not any(w.startswith("task=") for w in words):
        words.append("task=cifar100_subclass")  # else that of the run, which is not there
    code = main(["--config-dir", str(ROOT / "conf"), "--cfg", "job", *words])
    assert code == 0, capfd.readouterr().err
