"""Keras's callbacks: what is refused, and the attributes that are kept."""

from __future__ import annotations

import collections
import logging
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers import Net, blobs, dense, make_trainer
from keras import callbacks as kc

from framework import Callback, Data, KerasCallback, Task, UserError
from framework.callbacks.attribute_state import Attributes
from framework.checkpoint.tree import read_tree, write_tree
from framework.core.codec import NotHeld, hold, release, same


class Two(Net):
    def build_model(self) -> Any:
        return {"a": dense(), "b": dense()}


REFUSED = [
    (lambda: kc.BackupAndRestore("b"), "run_dir"),
    (lambda: kc.SwapEMAWeights(), "ema.EMA"),
    (lambda: kc.TensorBoard("t"), "TensorBoardLogger"),
    (lambda: kc.ProgbarLogger(), "enable_progress_bar"),
]


@pytest.mark.parametrize(("make", "fix"), REFUSED)
def test_what_the_framework_does_itself_is_refused(make: Any, fix: str) -> None:
    with pytest.raises(UserError, match="is not supported") as error:
        make_trainer(callbacks=[make()])
    assert fix in str(error.value.fix)


def test_what_cannot_work_is_refused_before_training() -> None:
    def fit(callback: Any, task: Task, message: str, fix: str, **options: Any) -> None:
        trainer = make_trainer(callbacks=[callback], max_epochs=1, **options)
        with pytest.raises(UserError, match=message) as error:
            trainer.fit(task, Data(train=blobs(16), batch_size=8))
        assert fix in str(error.value.fix)
        assert trainer.progress.step == 0

    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    decaying = Net(optimizer=lambda: keras.optimizers.SGD(schedule))
    fit(kc.ReduceLROnPlateau("loss"), decaying, "follows a schedule", "a number")
    fit(kc.LearningRateScheduler(lambda e: 0.1), decaying, "follows a schedule", "a number")
    fit(kc.History(), Two(), "the task has 2", "framework.Callback")
    fit(kc.EarlyStopping("val_loss"), Net(), "val_loss is .* no validation data", "monitor loss")
    fit(kc.EarlyStopping("acuracy"), Net(), "nothing logs", "Did you mean 'accuracy'?")
    with pytest.raises(UserError, match="is a class"):
        KerasCallback(kc.EarlyStopping)
    with pytest.raises(UserError, match="not a Keras callback"):
        KerasCallback(Callback())
    with pytest.raises(UserError, match="holds the class EarlyStopping"):
        make_trainer(callbacks=[kc.EarlyStopping])


def test_values_come_back_as_what_they_were(tmp_path: Path) -> None:
    values = {
        "plain": [None, True, 3, 2**80, -0.0, float("inf"), "text", b"\x00\xff", 1j],
        "nested": {1: (2, [3.5, ()]), "$array": {2.5: None}, (1, 2): {True}, None: frozenset("a")},
        "scalars": [np.float32(0.1), np.int64(3), np.bool_(True), np.str_("a")],
        "arrays": [np.zeros((0, 2)), np.array(2.5), np.arange(6.0).reshape(2, 3).T],
        "queue": collections.deque([1, 2], maxlen=2),
    }
    write_tree(tmp_path, {name: hold(value) for name, value in values.items()})
    held = read_tree(tmp_path)
    back = {name: release(value) for name, value in held.items()}
    assert all(same(hold(back[name]), hold(values[name])) for name in values)
    for name in ("plain", "nested", "scalars", "queue"):
        assert repr(back[name]) == repr(values[name])
    assert back["queue"].maxlen == 2
    assert not same(hold((1,)), hold([1]))
    assert not same(hold(1), hold(1.0))
    assert same(hold(float("nan")), hold(float("nan")))
    for unfit in (object(), np.array([object()]), collections.Counter(), [print]):
        with pytest.raises(NotHeld):
            hold(unfit)


def test_attributes_that_change(caplog: pytest.LogCaptureFixture) -> None:
    class Owner:
        def __init__(self, patience: int = 1) -> None:
            self.patience, self.wait, self.left, self.apart = patience, 0, 5, 1
            self.groups: Any = collections.defaultdict(list)
            self.call, self.file, self.box = print, None, object()

    owner = Owner()
    kept = Attributes(owner, apart=["apart"])
    owner.left = 0  # what the beginning of a run does
    kept.begin()
    owner.left, owner.wait, owner.apart = 5, 2, 9
    owner.groups["a"].append(1)
    with caplog.at_level(logging.WARNING, "framework"):
        owner.file = object()
        state = kept.state()
        kept.state()
    assert set(state) == {"wait", "left", "groups"}
    assert [r.getMessage().partition(",")[0] for r in caplog.records] == [
        "Owner.file holds a object"
    ]
    other = Owner(patience=7)
    other.left = 0
    Attributes(other).load_state(state)
    assert (other.patience, other.wait, other.left, other.apart) == (7, 2, 5, 1)
    other.groups["b"].append(2)  # still a defaultdict
    assert other.groups == {"a": [1], "b": [2]}
    owner.wait = 3
    kept.leave()  # a run ends
    owner.patience = 4  # by somebody, before the next
    kept.rewind()
    assert (owner.wait, owner.patience, owner.left, owner.groups) == (0, 4, 5, {})
    kept.begin()
    assert kept.state() == {}
