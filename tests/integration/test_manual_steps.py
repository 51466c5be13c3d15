"""Every kind of step against a loop written out by hand, in every engine and precision."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import bare_parts as parts
import keras
import manual_tasks as mt
import numpy as np
import pytest
import tensorflow as tf
from bare_loops import (
    bare_contrast,
    bare_cycle,
    bare_distillation,
    bare_groups,
    bare_meta,
    bare_shape,
    bare_tempered,
    bare_twice,
    bare_vae,
    bare_wgan,
    check,
    learnt,
    train,
)
from bare_parts import BATCH, STEPS, Bare, gaps, relative
from helpers import bits, blobs, differing

from framework import Callback, Data, Every, Task, Trainer
from framework.run import assembly as setup
from framework.step.precision import LossScale

engines = pytest.mark.parametrize("engine", ["graph", "eager"])


# ---- the steps


@cache
def trained_wgan(engine: str) -> Trainer:
    return train(mt.Wgan(), mt.WGAN_DATA, engine=engine, log_every="1000st")


@engines
def test_wgan_with_gradient_penalty(engine: str) -> None:
    trainer, expected = trained_wgan(engine), bare_wgan()
    check(trainer.task, expected)
    optimizers = trainer.optimizers.values()
    assert [int(o.iterations) for o in optimizers] == [3 * STEPS, STEPS]
    assert [float(o.learning_rate) for o in optimizers] == expected.values
    assert expected.values == pytest.approx([0.01 * 0.7**3, 0.005])


@pytest.mark.parametrize(
    ("style", "engine"),
    [*itertools.product(["tape", "dict"], ["graph", "eager"]), ("one by one", "graph")],
)
def test_a_cycle_takes_all_gradients_before_any_update(style: str, engine: str) -> None:
    task = mt.Cycle(style)
    trainer = train(task, mt.CYCLE_DATA, engine=engine)
    check(task, bare_cycle(style != "one by one"))
    other = gaps(learnt(task), bare_cycle(style == "one by one").final)
    assert min(other.values()) > 1e-4  # the order does show
    assert {int(o.iterations) for o in trainer.optimizers.values()} == {STEPS}


@engines
def test_a_vae_whose_layer_adds_a_loss(engine: str) -> None:
    task = mt.Vae(optimizer=keras.optimizers.Adam(0.01))
    train(task, mt.VAE_DATA, engine=engine)
    check(task, bare_vae())
    assert max(gaps(learnt(task), bare_vae(False).final).values()) > 1e-3


@engines
@pytest.mark.parametrize("kind", [mt.Distillation, mt.DistillationByHand])
def test_distillation_leaves_the_teacher_alone(kind: type[Task], engine: str) -> None:
    task = kind(optimizer=keras.optimizers.Adam(0.01))
    trainer = train(task, mt.BLOBS, engine=engine)
    expected = bare_distillation()
    check(task, expected, frozen=["teacher"])
    pairs = zip(learnt(task)["teacher"], expected.start["teacher"], strict=True)
    assert all(a.tobytes() == b.tobytes() for a, b in pairs)
    # Two slots for each weight of the student, beside the count of updates and the rate.
    student = task.model["student"].trainable_variables
    assert len(trainer.optimizers["optimizer"].variables) == 2 + 2 * len(student)


@engines
def test_contrast_with_a_queue_and_a_momentum_encoder(engine: str) -> None:
    task = mt.Contrast()
    train(task, mt.CONTRAST_DATA, engine=engine)
    check(task, bare_contrast())
    still = gaps(learnt(task), bare_contrast(False).final)
    assert min(still.values()) > 1e-3  # the momentum encoder does show, in the queue too


class Around(Callback):
    """Keeps all bits before and after every validation, and what it logged."""

    def on_validation_start(self, trainer: Trainer) -> None:
        self.before = bits(trainer)

    def on_validation_end(self, trainer: Trainer, metrics: Mapping[str, float]) -> None:
        self.after, self.metrics = bits(trainer), metrics


@engines
@pytest.mark.parametrize("kind", [mt.Meta, mt.MetaByHand])
def test_first_order_meta_learning(kind: type[Task], engine: str) -> None:
    task, around = kind(), Around()
    data = Data(train=mt.META_DATA, val=val_of(mt.META_VAL), batch_size=BATCH, shuffle=False)
    trainer = train(task, data, engine=engine, callbacks=[around])
    expected = bare_meta()
    check(task, expected)
    assert [int(o.iterations) for o in trainer.optimizers.values()] == [0, STEPS]

    # Training inside the validation: its losses, and no bit of it left behind.
    assert differing(around.before, around.after) == []
    slots = [name for name in around.before if name.startswith("optimizers/outer")]
    assert len(slots) == 2 + 2 * 4
    assert any(np.frombuffer(around.before[name], "f4").any() for name in slots)
    rows, before, adapted = np.array(expected.values).T
    assert list(rows) == [BATCH, 5]
    assert around.metrics["val/before"] == pytest.approx(np.average(before, weights=rows), 1e-4)
    assert around.metrics["val/adapted"] == pytest.approx(np.average(adapted, weights=rows), 1e-4)
    assert around.metrics["val/after"] == around.metrics["val/before"]
    assert around.metrics["val/adapted"] < 0.95 * around.metrics["val/before"]


def val_of(arrays: Any) -> tf.data.Dataset:
    """A dict of tuples would be several sets."""
    return tf.data.Dataset.from_tensor_slices(arrays).batch(BATCH)


@engines
@pytest.mark.parametrize("clips", [False, True])
def test_a_batch_of_any_structure_and_shape(clips: bool, engine: str) -> None:
    task = (mt.Clips if clips else mt.Nested)(optimizer=keras.optimizers.Adam(0.01))
    data = Data(train=tf.data.Dataset.from_tensor_slices(mt.CLIPS)) if clips else mt.NESTED
    train(task, data, engine=engine)
    check(task, bare_shape(clips))


@engines
def test_several_updates_of_one_optimizer_for_each_batch(engine: str) -> None:
    task = mt.Twice(optimizer=keras.optimizers.Adam(0.01))
    trainer = train(task, mt.BLOBS, engine=engine)
    check(task, bare_twice())
    assert int(trainer.optimizers["optimizer"].iterations) == 2 * STEPS
    assert trainer.metrics["train/gain"] > 0


@engines
@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_gradient_by_inputs_in_an_evaluation(precision: str, engine: str) -> None:
    class Saliency(mt.Classify):
        def eval_step(self, batch: Any) -> None:
            x, _ = batch
            with tf.GradientTape() as tape:
                tape.watch(x)
                output = tf.reduce_sum(parts.real(self.model(x)) ** 2, 1) * 1e-4
            self.log("slope", self.gradient(tape, output, x) * x)

        def build_model(self) -> Any:
            return parts.net(6, 3, seed=1)

    task, around = Saliency(optimizer=keras.optimizers.SGD(0.1)), Around()
    x, y = blobs(13, seed=4)
    data = Data(train=mt.BLOBS, val=(x, y), batch_size=BATCH, shuffle=False)
    train(task, data, engine=engine, precision=precision, callbacks=[around])
    kernel, bias = task.model.get_weights()
    slope = 2e-4 * ((x @ kernel + bias) @ kernel.T) * x
    close = 1e-5 if precision == "float32" else 1e-2
    assert around.metrics["val/slope"] == pytest.approx(slope.mean(), close)
    assert around.before == around.after


@engines
def test_parameter_groups_in_automatic_mode(engine: str) -> None:
    task = mt.Groups()
    trainer = train(task, mt.BLOBS, engine=engine)
    expected = bare_groups()
    check(task, expected)
    begun, ended = expected.start["model"], task.model.get_weights()
    same = [a.tobytes() == b.tobytes() for a, b in zip(begun, ended, strict=True)]
    assert same == [False, False, True, True, False, False]
    assert [len(o.variables) for o in trainer.optimizers.values()] == [2 + 2, 2 + 4]


@engines
@pytest.mark.parametrize("kind", [mt.Tempered, mt.TemperedByHand])
def test_a_trainable_variable_of_the_tasks_own(kind: type[Task], engine: str) -> None:
    task = kind(optimizer=keras.optimizers.Adam(0.01))
    train(task, mt.BLOBS, engine=engine)
    check(task, bare_tempered())


# ---- precisions and stretches

KINDS: dict[str, tuple[Callable[[], Task], Any, Callable[..., Bare]]] = {
    "wgan": (mt.Wgan, mt.WGAN_DATA, bare_wgan),
    "cycle": (mt.Cycle, mt.CYCLE_DATA, bare_cycle),
    "contrast": (mt.Contrast, mt.CONTRAST_DATA, bare_contrast),
}


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("precision", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_every_precision_agrees_with_the_bare_loop(
    kind: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that grows on the way, but not beyond what these gradients bear.
    monkeypatch.setattr(setup, "LossScale", lambda: LossScale(initial=256.0, growth_steps=15))
    make, data, loop = KINDS[kind]
    task = make()
    trainer = train(task, data, precision=precision)
    if precision == "float64":
        check(task, loop(floatx="float64"), most=1e-10)
        assert max(gaps(learnt(task), loop().final).values()) > 1e-9  # float32 would not do
        return
    expected = loop()
    off, moved = (relative(learnt(task), each) for each in (expected.final, expected.start))
    assert max(off.values()) <= 1e-2
    assert min(moved.values()) > 5e-2
    assert max(off.values()) > 1e-6  # it did compute in 16 bit
    if precision == "mixed_float16":
        scale, updates = trainer.state()["loss_scale"], 4 * STEPS if kind == "wgan" else STEPS
        assert (scale["skipped"], scale["value"]) == (0, 256.0 * 2 ** (updates // 15))


def test_stretches_of_any_length_give_the_same_bits() -> None:
    class Sevens(Callback):
        every = Every("7st")

    one = trained_wgan("graph")
    assert len(bits(one)) > 20
    for options in ({"log_every": "1st"}, {"callbacks": [Sevens()], "log_every": "1000st"}):
        other = train(mt.Wgan(), mt.WGAN_DATA, **options)
        assert differing(one, other) == []
        assert other.metrics == one.metrics
