"""The published order of the hooks, held word for word."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import tensorflow as tf
from helpers import Net, blobs, make_trainer

from framework import Callback, Data, Every, Trainer

HOOKS = [name for name in vars(Callback) if name.startswith("on_")]
PER_BATCH = ("on_train_batch_start", "on_train_batch_end")


def recording(name: str, trace: list[str], every: str | None, per_batch: bool) -> Callback:
    """A callback that overrides every hook, the per-batch ones only if it is told to."""

    def hook(which: str) -> Any:
        def record(self: Callback, trainer: Trainer, *args: Any) -> None:
            note = f"{name}.{which}"
            if args and isinstance(args[0], Mapping):
                note += f"({'+'.join(sorted({k.split('/')[0] for k in args[0]}))})"
            elif args:
                note += f"({type(args[0]).__name__})"
            trace.append(f"{note} {trainer.progress.step}")

        return record

    body = {which: hook(which) for which in HOOKS if per_batch or which not in PER_BATCH}
    callback = type(f"Recording{name.upper()}", (Callback,), body)()
    callback.every = Every(every) if every else None
    return callback


class Recorded(Net):
    trace: list[str]

    def configure_callbacks(self) -> list[Callback]:
        return [recording("b", self.trace, "2st", per_batch=False)]

    def on_setup(self) -> None:
        self.trace.append(f"task.on_setup {len(self.model.weights)}")

    def on_fit_start(self) -> None:
        self.trace.append(f"task.on_fit_start {self.global_step}")

    def on_fit_end(self) -> None:
        self.trace.append("task.on_fit_end")

    def on_epoch_start(self) -> None:
        self.trace.append("task.on_epoch_start")

    def on_epoch_end(self) -> None:
        self.trace.append("task.on_epoch_end")


def run(per_batch: bool, **options: Any) -> list[str]:
    task = Recorded()
    task.trace = []
    last = recording("c", task.trace, None, per_batch=per_batch)
    trainer = make_trainer(callbacks=[last], **{"max_epochs": 2, "val_every": "3st", **options})
    trainer.fit(task, Data(train=blobs(24), val=blobs(8), batch_size=8))
    return task.trace


def both(hook: str, step: int) -> list[str]:
    return [f"b.{hook} {step}", f"c.{hook} {step}"]


def test_the_whole_order_of_fit() -> None:
    def epoch(first: int) -> list[str]:
        one, two, three = first + 1, first + 2, first + 3
        lines = ["task.on_epoch_start", *both("on_epoch_start", first)]
        for step in (one, two):
            lines += [f"c.on_train_batch_start {step - 1}", f"c.on_train_batch_end {step}"]
            if step % 2 == 0:
                lines += [f"b.on_wake {step}", *both("on_wake_end", step)]
        lines += [f"c.on_train_batch_start {two}", f"c.on_train_batch_end {three}"]
        lines += both("on_log(train)", three)
        lines += both("on_validation_start", three) + both("on_validation_end(val)", three)
        lines += [f"b.on_wake {three}"] if three % 2 == 0 else []
        lines += both("on_wake_end", three)
        return [*lines, "task.on_epoch_end", *both("on_epoch_end", three)]

    assert run(per_batch=True) == [
        "task.on_setup 2",
        *both("on_setup", 0),
        "task.on_fit_start 0",
        *both("on_fit_start", 0),
        *epoch(0),
        *epoch(3),
        "task.on_fit_end",
        *both("on_fit_end", 6),
    ]


def test_without_per_batch_hooks_the_rest_is_the_same() -> None:
    plain = run(per_batch=False)
    assert plain == [line for line in run(per_batch=True) if "batch" not in line]


def test_an_override_in_a_subclass_of_a_subclass_counts_as_per_batch() -> None:
    class Base(Callback):
        def on_train_batch_end(self, trainer: Trainer) -> None:
            steps.append(trainer.progress.step)

    class Derived(Base):
        pass

    steps: list[int] = []
    trainer = make_trainer(max_steps=5, callbacks=[Derived()])
    trainer.fit(Net(), Data(train=blobs(40), batch_size=8))
    assert steps == [1, 2, 3, 4, 5]


def test_an_exception_reaches_on_exception_then_on_fit_end() -> None:
    class Boom(Callback):
        every = Every("2st")

        def on_wake(self, trainer: Trainer) -> None:
            raise RuntimeError("boom")

    task = Recorded()
    task.trace = []
    last = recording("c", task.trace, None, per_batch=False)
    trainer = make_trainer(max_epochs=2, callbacks=[Boom(), last])
    with pytest.raises(RuntimeError, match="boom"):
        trainer.fit(task, Data(train=blobs(24), batch_size=8))
    assert task.trace == [
        "task.on_setup 2",
        *both("on_setup", 0),
        "task.on_fit_start 0",
        *both("on_fit_start", 0),
        "task.on_epoch_start",
        *both("on_epoch_start", 0),
        "b.on_wake 2",  # the task's callback stands before the one that fails
        *both("on_exception(RuntimeError)", 2),
        "task.on_fit_end",
        *both("on_fit_end", 2),
    ]
    assert trainer.status == "failed"
    assert trainer.stop_reason == "boom"


@pytest.mark.parametrize(("stage", "hook"), [("validate", "validation"), ("test", "test")])
def test_evaluation_calls_only_its_own_pair(stage: str, hook: str) -> None:
    task = Recorded()
    task.trace = []
    trainer = make_trainer()
    prefix = "val" if stage == "validate" else "test"
    getattr(trainer, stage)(task, Data(val=blobs(8), test=blobs(8)))
    setup = ["task.on_setup 2", "b.on_setup 0"]
    assert task.trace == [*setup, f"b.on_{hook}_start 0", f"b.on_{hook}_end({prefix}) 0"]
    task.trace.clear()
    trainer.predict(task, Data(test=blobs(8)))
    assert task.trace == [*setup, "b.on_predict_start 0", "b.on_predict_end 0"]


@pytest.mark.parametrize(
    "where", ["on_wake", "on_epoch_end", "on_validation_end", "on_train_batch_end"]
)
def test_a_callback_may_stop_the_run_from_any_hook(where: str) -> None:
    def stop(self: Callback, trainer: Trainer, *_: Any) -> None:
        if trainer.progress.step >= 4:
            trainer.stop("seen enough")

    callback = type("Stopper", (Callback,), {where: stop, "every": Every("4st")})()
    trainer = make_trainer(max_epochs=50, callbacks=[callback], val_every="4st")
    trainer.fit(Net(), Data(train=blobs(24), val=blobs(8), batch_size=8))
    assert trainer.progress.step == (6 if where == "on_epoch_end" else 4)
    assert (trainer.status, trainer.stop_reason) == ("stopped", "seen enough")


def test_a_step_that_fails_while_running_calls_on_exception() -> None:
    class Fails(Recorded):
        def train_step(self, batch: Any) -> Any:
            loss = super().train_step(batch)
            with tf.control_dependencies(
                [tf.debugging.assert_less(self.global_step, tf.constant(2, tf.int64))]
            ):
                return tf.identity(loss)

    task = Fails()
    task.trace = []
    with pytest.raises(Exception, match="assert"):
        make_trainer(max_epochs=2).fit(task, Data(train=blobs(24), batch_size=8))
    assert any("on_exception" in line for line in task.trace)
    assert task.trace[-1].startswith("b.on_fit_end")
