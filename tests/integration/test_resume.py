"""What a run is continued with: its state, its devices, its later end, its weights alone."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import FEATURES, LogRows, Net, blobs, dense, differing, make_trainer
from resumed import run

from framework import Callback, Data, Every, Trainer, UserError
from framework.callbacks.checkpoint import Checkpoint
from framework.callbacks.ema import EMA
from framework.checkpoint.manifest import signed
from framework.checkpoint.store import CheckpointStore
from framework.core.state import variables_state


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    path = tmp_path_factory.mktemp("unbroken")
    return run(path), path


class Signal(Callback):
    """SIGTERM comes while the host handles a step."""

    def __init__(self, step: int, hook: str) -> None:
        self.step, self.every = step, Every("1st")
        setattr(self, hook, self._send)

    def _send(self, trainer: Trainer, *_: Any) -> None:
        if trainer.progress.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("step", "hook"), [(8, "on_log"), (20, "on_log"), (20, "on_validation_start")]
)
def test_what_was_due_where_a_signal_came_is_done_later(
    step: int, hook: str, unbroken: tuple[Trainer, Path], tmp_path: Path
) -> None:
    whole, whole_dir = unbroken
    with pytest.raises(SystemExit, match="143"):
        run(tmp_path, Signal(step, hook))
    trainer = run(tmp_path)
    assert differing(whole, trainer) == []
    assert trainer.metrics == whole.metrics
    assert (tmp_path / "metrics.csv").read_bytes() == (whole_dir / "metrics.csv").read_bytes()


def test_two_devices_continue_exactly_with_whatever_they_draw(tmp_path: Path) -> None:
    # Judged by an average, of batch statistics too, which has to be the same on both of them.
    options = {"devices": 2, "max_epochs": 1}
    whole = run(None, EMA(0.5), **options)
    with pytest.raises(SystemExit, match="143"):
        run(tmp_path, Signal(9, "on_wake"), EMA(0.5), **options)
    trainer = run(tmp_path, EMA(0.5), **options)
    assert trainer.progress.step == 13
    assert differing(whole, trainer) == []
    assert trainer.metrics == whole.metrics


class Draws(Net):
    def train_step(self, batch: Any) -> Any:
        drawn = self.gather(keras.random.uniform([1]))  # without a seed of its own
        self.log("spread", tf.reduce_max(drawn) - tf.reduce_min(drawn))
        return super().train_step(batch)


def test_devices_draw_differently_from_the_global_generator() -> None:
    trainer = make_trainer(devices=2, max_steps=4, log_every="1st")
    trainer.fit(Draws(), Data(train=blobs(32), batch_size=8))
    assert trainer.metrics["train/spread"] > 1e-3


@pytest.mark.parametrize("first", [{"max_epochs": 1}, {"max_steps": 7}, {"max_time": "0.001s"}])
def test_a_later_end_continues_as_if_there_had_been_no_other(
    first: dict[str, Any], unbroken: tuple[Trainer, Path], tmp_path: Path
) -> None:
    whole, whole_dir = unbroken
    ended = run(tmp_path, **first)
    assert 0 < ended.progress.step < 26
    ended.test(ended.task, Data(test=blobs(16)))
    trainer = run(tmp_path)
    assert (trainer.progress.step, trainer.already_complete) == (26, False)
    assert differing(whole, trainer) == []
    trainer.test(trainer.task, Data(test=blobs(16)))
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [row.rpartition(",test/")[0] or row for row in rows[:1]] != rows[:1]
    kept = [",".join(row.split(",")[:-2]) for row in rows]
    assert kept == (whole_dir / "metrics.csv").read_text().splitlines()


def test_a_complete_run_says_so(
    unbroken: tuple[Trainer, Path], caplog: pytest.LogCaptureFixture
) -> None:
    whole, path = unbroken
    before = (path / "metrics.csv").read_bytes()
    with caplog.at_level(logging.INFO, "framework"):
        trainer = run(path)
    assert trainer.already_complete
    assert "already complete: max_epochs=2 reached (step 26)" in caplog.text
    assert trainer.metrics == whole.metrics
    assert (path / "metrics.csv").read_bytes() == before


def test_resume_never_and_must(unbroken: tuple[Trainer, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="already contains a run"):
        run(unbroken[1], resume="never")
    with pytest.raises(UserError, match="there is no run to resume"):
        run(tmp_path / "none", resume="must")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match=r"seed +0 +1"):
        run(unbroken[1], seed=1)


# ---- checkpoints


def test_another_format_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    path = store.save(1, {"a": 1})
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    (path / "manifest.json").write_text(signed({**manifest, "format": 2}))
    for read in (lambda: store.load(path), store.load_newest):
        with pytest.raises(UserError, match="has format 2, and this version reads 3"):
            read()


def test_when_checkpoints_are_saved_and_which_stay(tmp_path: Path) -> None:
    log = LogRows()
    checkpoint = Checkpoint("val/loss", save_every="3st", keep_last=2, keep_every="11st")
    trainer = run(tmp_path, checkpoint, log)
    losses = {step: row["val/loss"] for step, row in log.val}
    best = min(losses, key=losses.__getitem__)
    improved = [s for s in losses if losses[s] == min(losses[t] for t in losses if t <= s)]
    saved = sorted({*range(3, 27, 3), *improved, 26})
    # The first save past 11 and past 22 steps stays for good.
    assert trainer.checkpoints.steps() == sorted({12, 24, *saved[-2:], best})
    assert trainer.best == {"step": best, "metric": "val/loss", "value": losses[best]}
    assert trainer.checkpoints.best() == trainer.best
    for step in trainer.checkpoints.steps():  # none is judged by a stale value
        manifest = json.loads((trainer.checkpoints.path(step) / "manifest.json").read_text())
        assert (manifest["judged"] or {}).get("value") == losses.get(step)


# ---- weights only


def test_weights_that_fit_are_taken_and_the_others_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def network(units: int, last: str) -> Callable[[], Any]:
        layers = keras.layers
        return lambda: keras.Sequential(
            [
                keras.Input((FEATURES,)),
                layers.Dense(units, name="first"),
                layers.Dense(3, name=last),
            ],
            name="net",
        )

    def fit(task: Net, **options: Any) -> Trainer:
        trainer = make_trainer(max_steps=2, **options)
        trainer.fit(task, Data(train=blobs(16), batch_size=8))
        return trainer

    fit(Net(network(5, "last")), run_dir=tmp_path)
    task = Net(network(5, "other"), optimizer=lambda: keras.optimizers.SGD(1e-30))
    trainer = make_trainer(max_steps=1)
    with caplog.at_level(logging.INFO, "framework"):
        trainer.fit(
            task,
            Data(train=blobs(16), batch_size=8),
            checkpoint=str(tmp_path),
            weights_only=True,
        )
    assert trainer.progress.step == 1
    assert "loaded 2 of 4 variables" in caplog.text
    assert "not in the checkpoint" in caplog.text
    store = CheckpointStore(tmp_path / "checkpoints")
    taken = list(store.load(store.find("last"))["models"]["model"].values())
    for mine, theirs in zip(task.model.get_weights()[:2], taken, strict=False):
        np.testing.assert_allclose(mine, theirs, atol=1e-20)
    with pytest.raises(UserError, match="no weight in the checkpoint fits"):
        make_trainer(max_steps=1).fit(
            Net(dense), Data(train=blobs(16)), checkpoint=str(tmp_path), weights_only=True
        )
    assert variables_state(task.model.variables)


def test_random_numbers_that_no_checkpoint_holds_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Noise(Net):
        def train_step(self, batch: Any) -> Any:
            x, y = batch
            return super().train_step((x + draw(tf.shape(x)), y))

    def warnings(run_dir: Path | None) -> list[str]:
        caplog.clear()
        make_trainer(max_steps=1, run_dir=run_dir).fit(Noise(), Data(train=blobs(8), batch_size=8))
        return [m for m in caplog.messages if "which no checkpoint" in m]

    draw: Callable[[Any], Any] = tf.random.normal
    assert "(RandomStandardNormal)" in warnings(tmp_path / "a")[0]
    assert not warnings(None)
    draw = keras.random.normal
    assert not warnings(tmp_path / "b")
