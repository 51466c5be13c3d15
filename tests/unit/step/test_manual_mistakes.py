"""Mistakes in steps that are optimised by hand are named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import manual_tasks as mt
import mistaken_tasks as mistaken
import pytest
from bare_loops import train
from bare_parts import BATCH
from helpers import make_trainer

from framework import Data, UserError

engines = pytest.mark.parametrize("engine", ["graph", "eager"])

MISTAKES: dict[str, tuple[type[mistaken.Pair], Callable[[mistaken.Pair], Any], Any, str, str]] = {
    "automatic": (
        mistaken.AutomaticPair,
        lambda task: task.minimize(task.judge, "critic"),
        mistaken.two,
        "minimize was called in automatic optimization",
        "automatic_optimization = False",
    ),
    "unknown": (
        mistaken.Pair,
        lambda task: task.minimize(task.judge, "critik"),
        mistaken.two,
        "there is no optimizer 'critik'",
        "Did you mean 'critic'?",
    ),
    "unknown in a dict": (
        mistaken.Pair,
        lambda task: task.minimize(lambda: {"makr": task.judge()}),
        mistaken.two,
        "there is no optimizer 'makr'",
        "Did you mean 'maker'?",
    ),
    "nameless": (
        mistaken.Pair,
        lambda task: task.minimize(task.judge),
        mistaken.two,
        "which optimizer is meant?",
        "critic, maker",
    ),
    "shared": (
        mistaken.AutomaticPair,
        lambda task: task.judge(),
        mistaken.shared,
        "is updated by 'a' and by 'b'",
        "one optimizer",
    ),
    "weightless": (
        mistaken.Pair,
        lambda task: task.minimize(task.judge, "critic"),
        mistaken.frozen,
        "the optimizer 'maker' has no weights to update",
        "trainable weights",
    ),
    "twice": (
        mistaken.Pair,
        lambda task: task.minimize(task.judge, "critic"),
        mistaken.twice,
        "one optimizer is given twice, the second time for 'maker'",
        "one for each name",
    ),
    "of another model": (
        mistaken.Pair,
        lambda task: task.minimize(task.judge, "maker"),
        mistaken.two,
        "the loss does not depend on any weight of maker",
        "under the tape",
    ),
    "state": (
        mistaken.Pair,
        lambda task: task.variable("quue"),
        mistaken.two,
        "the task has no variable 'quue'",
        'self.variable("quue", tf.zeros(...))',
    ),
    "average": (
        mistaken.Pair,
        lambda task: task.ema_of(task.model["critic"], 2),
        mistaken.two,
        "decay is 2",
        "from 0 to 1",
    ),
}


@engines
@pytest.mark.parametrize("mistake", list(MISTAKES))
def test_what_a_mistake_says(mistake: str, engine: str, tmp_path: Path) -> None:
    kind, act, configured, what, fix = MISTAKES[mistake]
    task = kind(act, configured)
    with pytest.raises(UserError) as error:
        train(task, mt.BLOBS, engine=engine, run_dir=tmp_path / "run")
    assert what in error.value.what
    assert fix in str(error.value.fix)
    assert kind.__name__ in str(error.value.where)
    assert engine == "eager" or not (tmp_path / "run").exists()


@engines
def test_training_in_an_evaluation_needs_a_snapshot(engine: str) -> None:
    class Learns(mt.Twice):
        def eval_step(self, batch: Any) -> None:
            self.minimize(lambda: mt.label_loss(self.model, batch))

    data = Data(train=mt.BLOBS, val=mt.BLOBS, batch_size=BATCH)
    with pytest.raises(UserError) as error:
        make_trainer(engine=engine).fit(Learns(), data)
    assert error.value.what == "minimize was called outside train_step"
    assert "with self.snapshot():" in str(error.value.fix)


@pytest.mark.parametrize("accumulate", [2, {0: 1, 3: 2}])
def test_the_trainer_cannot_accumulate_by_hand(accumulate: Any, tmp_path: Path) -> None:
    task = mt.Twice()
    with pytest.raises(UserError, match="cannot accumulate") as error:
        train(task, mt.BLOBS, accumulate=accumulate, run_dir=tmp_path / "run")
    assert error.value.where == "trainer.accumulate"
    assert task.model is None
    assert not (tmp_path / "run").exists()
