"""A real TensorBoard over a sweep of four, a run that was killed, and one that is running."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from board_server import Board, serving
from cli_project import Run, project, result, run  # noqa: F401 - fixtures

PICTURES = """
import os, signal, time
import numpy as np
from framework import Callback, Histogram


class Pictures(Callback):
    def on_epoch_end(self, run):
        run.log_images("noise", np.full([2, 4, 4, 3], 0.5))
        run.log_histograms({"weights/kernel": Histogram.of(run.task.model.weights[0], bins=4)})


class Killed(Callback):
    def on_epoch_end(self, run):
        if run.progress.epoch == 2:
            os.kill(os.getpid(), signal.SIGKILL)


class Waiting(Callback):
    def on_epoch_end(self, run):
        if run.progress.epoch == 2:
            print("waiting", flush=True)
            time.sleep(600)
"""
ALL = ["STATUS_UNKNOWN", "STATUS_SUCCESS", "STATUS_FAILURE", "STATUS_RUNNING"]
SWEPT = {
    f"{number}_seed={seed}_optimizer.learning_rate={rate}": (seed, rate)
    for number, (seed, rate) in enumerate([(0, 0.01), (0, 0.1), (1, 0.01), (1, 0.1)])
}


def start(name: str, callback: str) -> subprocess.Popen[str]:
    """Start a run of three epochs in a process of its own."""
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "framework", "task=mine", f"run_dir=runs/{name}", "seed=7"),
            *("trainer.max_epochs=3", f"+callbacks.x._target_=cliproj.pictures.{callback}"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def sessions(board: Board) -> dict[str, Any]:
    """The rows of the HParams tab by name."""
    body = {"startIndex": 0, "sliceSize": 100, "allowedStatuses": ALL, "colParams": []}
    groups = board.get("plugin/hparams/session_groups", body).get("sessionGroups", [])
    return {group["name"]: group for group in groups}


def metrics(group: dict[str, Any]) -> dict[str, float]:
    """The metrics of a row, such as `val/loss`."""
    names = [(value["name"], value["value"]) for value in group["metricValues"]]
    return {f"{name['group']}/{name['tag']}": value for name, value in names}


def test_runs_compare_without_a_further_step(project: Path, run: Run) -> None:  # noqa: F811
    (project / "cliproj/pictures.py").write_text(PICTURES)
    killed, waiting = start("killed", "Killed"), start("on", "Waiting")
    code, _, err = run(
        *("-m", "task=mine", "seed=0,1", "optimizer.learning_rate=0.01,0.1", "optimizer=sgd"),
        *("trainer.max_epochs=2", "sweep_dir=runs/s", "trainer.log_every=5st"),
        "+callbacks.x._target_=cliproj.pictures.Pictures",
    )
    assert code == 0, err
    try:
        assert killed.wait(timeout=300) == -signal.SIGKILL
        assert waiting.stdout is not None
        assert any("waiting" in line for line in waiting.stdout)
        with serving(project / "runs") as board:
            names = {f"s/{name}" for name in SWEPT} | {"killed", "on"}
            found = board.wait_until(lambda: len(sessions(board)) == 6 and sessions(board))
            assert set(found) == names
            check_hparams(found, project / "runs")
            check_dashboards(board, project / "runs")
    finally:
        waiting.kill()
        waiting.wait()


def check_hparams(found: dict[str, Any], runs: Path) -> None:
    """Every run has what it varies, what it measured, and a status that is true."""
    for name, (seed, rate) in SWEPT.items():
        group = found[f"s/{name}"]
        hparams, measured = group["hparams"], metrics(group)
        assert (hparams["seed"], hparams["optimizer.learning_rate"]) == (seed, rate)
        assert hparams["optimizer"] == "sgd"
        assert hparams["task"] == "mine"
        outcome = result(runs / "s" / name)
        for metric in ("val/loss", "test/loss"):
            assert measured[metric] == pytest.approx(outcome["metrics"][metric], rel=1e-6)
        assert measured["val/best/loss"] == pytest.approx(outcome["best"]["value"], rel=1e-6)
        (session,) = group["sessions"]
        assert session["status"] == "STATUS_SUCCESS"
        assert float(session["endTimeSecs"]) >= float(session["startTimeSecs"]) > 0
    for name in ("killed", "on"):  # neither has ended, so neither has succeeded or failed
        (session,) = found[name]["sessions"]
        assert session.get("status", "STATUS_UNKNOWN") == "STATUS_UNKNOWN"
        assert {"train/loss", "val/loss"} <= set(metrics(found[name]))


def check_dashboards(board: Board, runs: Path) -> None:
    """Each dashboard has what it is for."""
    one = f"s/{next(iter(SWEPT))}"
    scalars = board.get("plugin/scalars/tags")
    assert {"loss", "steps/loss", "epoch"} <= set(scalars[f"{one}/train"])
    assert {"loss", "best/loss"} == set(scalars[f"{one}/val"])
    assert {"loss"} == set(scalars[f"{one}/test"])
    points = board.get("plugin/scalars/scalars", run=f"{one}/train", tag="loss")
    assert [step for _, step, _ in points] == [10, 20]
    points = board.get("plugin/scalars/scalars", run=f"{one}/train", tag="steps/loss")
    assert [step for _, step, _ in points] == [5, 10, 15, 20]
    points = board.get("plugin/scalars/scalars", run="on/train", tag="epoch")
    assert points[-1][1:] == [20, 2]
    texts = board.get("plugin/text/tags")[f"{one}/train"]
    assert set(texts) == {"config", "model", "data", "stop_reason"}
    (text,) = board.get("plugin/text/text", run=f"{one}/train", tag="stop_reason")
    assert "completed: max_epochs=2 reached" in text["text"]
    assert "stop_reason" not in board.get("plugin/text/tags")["killed/train"]
    assert board.get("plugin/images/tags")[f"{one}/train"]["noise"]["samples"] == 2
    (_, _, bins), *_ = board.get(
        "plugin/histograms/histograms", run=f"{one}/train", tag="weights/kernel"
    )
    assert sum(count for _, _, count in bins) == 3  # the kernel has three weights
    assert board.get("plugin/graphs/info")[f"{one}/train"]["run_graph"]
    graph = board.bytes("plugin/graphs/graph", run=f"{one}/train", large_attrs_key="x").decode()
    assert "MatMul" in graph
    layout = board.get("plugin/custom_scalars/layout")
    charts = {page["title"]: [c["title"] for c in page["chart"]] for page in layout["category"]}
    assert charts == {
        "Train, validation and test": ["loss"],
        "Between the epochs": ["learning_rate", "loss"],
    }
