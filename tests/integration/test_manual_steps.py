"""Every kind of step against a loop written out by hand, in every engine and precision."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import keras
import manual_tasks as mt
import numpy as np
import pytest
import tensorflow as tf
from helpers import LogRows, bits, blobs, differing, make_trainer
from manual_tasks import (
    BATCH,
    ROWS,
    STEPS,
    Bare,
    bare,
    batches,
    build,
    gaps,
    relative,
    run,
    weights,
)

from framework import Callback, Data, Every, Task, Trainer, UserError
from framework.run import components as setup
from framework.step.precision import LossScale

engines = pytest.mark.parametrize("engine", ["graph", "eager"])


# ---- the bare loops


@bare
def bare_wgan() -> Bare:
    models, optimizers = mt.wgan_models(), mt.wgan_optimizers()
    critic, generator = models["critic"], models["generator"]
    build(optimizers, models)
    start = weights(models)

    def fakes(images: tf.Tensor, number: tf.Tensor, stream: int) -> tf.Tensor:
        return generator(mt.noise(number, stream, images, mt.LATENT), training=True)

    def step(batch: tf.Tensor, number: tf.Tensor) -> Any:
        images = mt.real(batch)
        for update in range(3):
            with tf.GradientTape() as outer:
                fake = fakes(images, number, update)
                mixed = mt.between(number, update, images, fake)
                with tf.GradientTape() as inner:
                    inner.watch(mixed)
                    scores = critic(mixed, training=True)
                slopes = inner.gradient(scores, mixed)
                loss = mt.critic_loss(critic(images), critic(fake), slopes)
            own = critic.trainable_variables
            optimizers["critic"].apply(outer.gradient(loss, own), own)
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(critic(fakes(images, number, 9)))
        own = generator.trainable_variables
        optimizers["generator"].apply(tape.gradient(loss, own), own)

    run(step, mt.WGAN_DATA)
    return Bare(start, weights(models), [float(o.learning_rate) for o in optimizers.values()])


@bare
def bare_cycle(together: bool = True, clip: float | None = None) -> Bare:
    models, optimizers = mt.cycle_models(), mt.cycle_optimizers()
    build(optimizers, models)
    start = weights(models)

    def step(batch: Any, number: tf.Tensor) -> Any:
        gradients, norms = {}, {}
        for name, model in models.items():
            if not (together and gradients):
                with tf.GradientTape(persistent=True) as tape:
                    losses = mt.cycle_losses(models, batch)
            gradients[name] = tape.gradient(losses[name], model.trainable_variables)
            norms[name] = tf.linalg.global_norm(gradients[name])
            if clip is not None:
                gradients[name], _ = tf.clip_by_global_norm(gradients[name], clip)
            if not together:
                optimizers[name].apply(gradients[name], model.trainable_variables)
        for name, model in models.items() if together else ():
            optimizers[name].apply(gradients[name], model.trainable_variables)
        return norms

    return Bare(start, values=run(step, mt.CYCLE_DATA), final=weights(models))


@bare
def bare_vae(divergence: bool = True) -> Bare:
    model, optimizer = mt.vae_model(), keras.optimizers.Adam(0.01)
    (sample,) = (layer for layer in model.layers if isinstance(layer, mt.Sample))
    whole = keras.Model(model.inputs, [model.output, *sample.input[:2]])
    own = model.trainable_variables
    optimizer.build(own)
    start = weights(model)

    def step(x: tf.Tensor, number: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            output, mean, log_var = whole([x, mt.noise(number, 0, x, mt.LATENT)], training=True)
            loss = mt.mean_square(output, x)
            if divergence:
                loss += mt.divergence(mean, log_var)
        optimizer.apply(tape.gradient(loss, own), own)

    return Bare(start, values=run(step, mt.VAE_DATA), final=weights(model))


@bare
def bare_distillation() -> Bare:
    models, optimizer = mt.distillation_models(), keras.optimizers.Adam(0.01)
    own = models["student"].trainable_variables
    optimizer.build(own)
    start = weights(models)

    def step(batch: Any, number: tf.Tensor) -> Any:
        x, y = batch
        taught = models["teacher"](x, training=False)
        with tf.GradientTape() as tape:
            loss = mt.distillation_loss(taught, models["student"](x, training=True), y)
        optimizer.apply(tape.gradient(loss, own), own)

    return Bare(start, values=run(step, mt.BLOBS), final=weights(models))


@bare
def bare_contrast(follows: bool = True) -> Bare:
    models = {name: mt.encoder() for name in ("online", "momentum")}
    online, momentum = models["online"], models["momentum"]
    own, optimizer = online.trainable_variables, keras.optimizers.Adam(0.01)
    optimizer.build(own)
    queue = tf.Variable(mt.QUEUE.astype(keras.config.floatx()))
    start = weights(models, queue=queue)

    def step(batch: tf.Tensor, number: tf.Tensor) -> Any:
        x = mt.real(batch)
        first, second = (x + 0.1 * mt.noise(number, k, x, mt.WIDTH) for k in range(2))
        negatives = queue.read_value()
        keys = tf.math.l2_normalize(momentum(second, training=False), -1)
        with tf.GradientTape() as tape:
            loss = mt.contrastive_loss(online(first, training=True), keys, negatives)
        optimizer.apply(tape.gradient(loss, own), own)
        queue.assign(tf.concat([keys, negatives], 0)[: len(mt.QUEUE)])
        for copy, source in zip(momentum.variables, online.variables, strict=True):
            if follows:
                copy.assign(mt.DECAY * copy + (1 - mt.DECAY) * source)

    run(step, mt.CONTRAST_DATA)
    return Bare(start, weights(models, queue=queue), [])


@bare
def bare_meta() -> Bare:
    """The adapted losses of the validation batches, by number of rows, are its values."""
    model, outer = mt.net(1, 8, 1, seed=1), keras.optimizers.Adam(0.02)
    own = model.trainable_variables
    outer.build(own)
    start = weights(model)

    def gradients(rows: Any) -> tuple[Any, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((mt.forward(own, rows[0]) - rows[1]) ** 2)
        return tape.gradient(loss, own), loss

    def adapt(rows: Any) -> None:
        speed = [tf.zeros(v.shape) for v in own]
        for _ in range(2):
            pairs = zip(speed, gradients(rows)[0], strict=True)
            speed = [mt.INNER_MOMENTUM * v - mt.INNER_RATE * g for v, g in pairs]
            for variable, change in zip(own, speed, strict=True):
                variable.assign(variable + change)

    def step(batch: Any, number: tf.Tensor) -> Any:
        kept = [tf.identity(v) for v in own]
        adapt(batch["support"])
        found, _ = gradients(batch["query"])
        for variable, value in zip(own, kept, strict=True):
            variable.assign(value)
        outer.apply(found, own)

    run(step, mt.META_DATA)
    final, changing = weights(model), [*own, *outer.variables]
    kept, losses = [v.numpy() for v in changing], []
    for batch in itertools.islice(batches(mt.META_VAL, (BATCH,)), 2):
        _, before = gradients(batch["query"])
        adapt(batch["support"])
        outer.apply(gradients(batch["support"])[0], own)
        _, adapted = gradients(batch["query"])
        losses.append([len(batch["query"][0]), float(before), float(adapted)])
        for variable, value in zip(changing, kept, strict=True):
            variable.assign(value)
    return Bare(start, final, losses)


@bare
def bare_shape(clips: bool) -> Bare:
    model = mt.image_encoder() if clips else mt.net(3, 4, 2, seed=1)
    own, optimizer = model.trainable_variables, keras.optimizers.Adam(0.01)
    optimizer.build(own)
    start = weights(model)

    def step(batch: Any, number: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            loss = mt.clip_loss(model, batch[0]) if clips else mt.nested_loss(model, batch)
        optimizer.apply(tape.gradient(loss, own), own)

    values = run(step, mt.CLIPS, (1,)) if clips else run(step, mt.NESTED)
    return Bare(start, weights(model), values)


@bare
def bare_classify(
    sizes: tuple[int, ...] = (BATCH,),
    norm: float | None = None,
    value: float | None = None,
    steps: int = STEPS,
) -> Bare:
    """Returns each step's number of rows, loss, and gradient norm before it is clipped."""
    model = mt.Classify().build_model()
    own, optimizer = model.trainable_variables, keras.optimizers.Adam(0.01)
    optimizer.build(own)
    start = weights(model)

    def step(batch: Any, number: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            loss = mt.label_loss(model, batch) + tf.add_n(model.losses)
        gradients = tape.gradient(loss, own)
        length = tf.sqrt(tf.add_n([tf.reduce_sum(g**2) for g in gradients]))
        if value is not None:
            gradients = [tf.clip_by_value(g, -value, value) for g in gradients]
        if norm is not None:
            gradients = [g * tf.minimum(1.0, norm / length) for g in gradients]
        optimizer.apply(gradients, own)
        return tf.shape(batch[0])[0], loss, length

    return Bare(start, values=run(step, mt.BLOBS, sizes, steps), final=weights(model))


@bare
def bare_twice() -> Bare:
    model, optimizer = mt.net(6, 5, 3, seed=1), keras.optimizers.Adam(0.01)
    own = model.trainable_variables
    optimizer.build(own)
    start = weights(model)

    def step(batch: Any, number: tf.Tensor) -> Any:
        for factor in (1.0, 0.5):
            with tf.GradientTape() as tape:
                loss = factor * mt.label_loss(model, batch)
            optimizer.apply(tape.gradient(loss, own), own)

    return Bare(start, values=run(step, mt.BLOBS), final=weights(model))


@bare
def bare_groups() -> Bare:
    model = mt.net(6, 5, 4, 3, seed=1)
    body, _, head = (layer.trainable_variables for layer in model.layers)
    sgd, adam = keras.optimizers.SGD(0.01, momentum=0.9), keras.optimizers.Adam(0.03)
    sgd.build(body)
    adam.build(head)
    start = weights(model)

    def step(batch: Any, number: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            loss = mt.label_loss(model, batch)
        gradients = tape.gradient(loss, [*body, *head])
        sgd.apply(gradients[:2], body)
        adam.apply(gradients[2:], head)

    return Bare(start, values=run(step, mt.BLOBS), final=weights(model))


@bare
def bare_tempered() -> Bare:
    model, optimizer = mt.net(6, 3, seed=1), keras.optimizers.Adam(0.01)
    temperature = keras.Variable(0.5)
    own = [*model.trainable_variables, temperature]
    optimizer.build(own)
    start = weights(model, temperature=temperature)

    def step(batch: Any, number: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            loss = mt.label_loss(model, batch, tf.exp(temperature))
        optimizer.apply(tape.gradient(loss, own), own)

    run(step, mt.BLOBS)
    return Bare(start, weights(model, temperature=temperature), [])


# ---- comparing


def train(task: Task, data: Any, **options: Any) -> Trainer:
    """Fit for 20 steps, in order."""
    options = {"max_steps": STEPS, **options}
    trainer = make_trainer(**options)
    if not isinstance(data, Data):
        data = Data(train=data, batch_size=BATCH, shuffle=False)
    trainer.fit(task, data)
    assert trainer.progress.step == options["max_steps"]
    return trainer


def learnt(task: Task) -> mt.Weights:
    return weights(task.model, **task.runtime.variables)


def check(task: Task, expected: Bare, *, frozen: Sequence[str] = (), most: float = 1e-5) -> None:
    """All weights as the bare loop's, and none where it began, but of what is frozen."""
    assert max(gaps(learnt(task), expected.final).values()) <= most
    moved = gaps(learnt(task), expected.start)
    assert {name: gap > 1e-2 for name, gap in moved.items()} == {
        name: name not in frozen for name in moved
    }


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
                output = tf.reduce_sum(mt.real(self.model(x)) ** 2, 1) * 1e-4
            self.log("slope", self.gradient(tape, output, x) * x)

        def build_model(self) -> Any:
            return mt.net(6, 3, seed=1)

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


# ---- accumulation


@engines
@pytest.mark.parametrize("stream", [False, True])
def test_accumulating_four_batches_equals_one_four_times_as_large(
    stream: bool, engine: str
) -> None:
    expected, rows = bare_classify((4 * BATCH,)), LogRows()
    task = mt.Classify(optimizer=keras.optimizers.Adam(0.01))
    data = Data(train=mt.BLOBS, batch_size=BATCH, shuffle=False)
    if stream:
        data = Data(train=tf.data.Dataset.from_tensor_slices(mt.BLOBS).batch(BATCH))
    options = {"engine": engine, "log_every": "1st", "callbacks": [rows], "log_grad_norm": True}
    trainer = train(task, data, accumulate=4, **options)
    check(task, expected)
    assert max(gaps(learnt(task), bare_classify().final).values()) > 1e-2
    assert stream or trainer.steps_per_epoch == 3  # of 32, 32 and 13 rows
    assert trainer.progress.examples == sum(rows for rows, _, _ in expected.values)
    assert task.seen <= {BATCH, ROWS % BATCH, None}
    assert BATCH in task.seen
    # A stream whose end shows only when it is reached logs the epoch in a row of its own.
    logged = [(step, row) for step, row in rows.rows if "train/loss" in row]
    for (step, row), (_, loss, norm) in zip(logged, expected.values, strict=True):
        assert row["train/loss"] == pytest.approx(loss, 1e-4), step
        assert row["train/grad_norm"] == pytest.approx(norm, 1e-3), step
    final = expected.values[-2:]  # the last epoch was cut after two steps
    assert trainer.metrics["train/loss"] == pytest.approx(np.mean([loss for _, loss, _ in final]))


class Lengths(Callback):
    """Keeps the steps of each epoch, those done after it, and those planned in all."""

    def __init__(self) -> None:
        self.found: list[tuple[int | None, int, int | None]] = []

    def on_epoch_end(self, trainer: Trainer) -> None:
        self.found.append((trainer.steps_per_epoch, trainer.progress.step, trainer.total_steps))


def test_an_accumulated_stream_of_known_length_has_a_known_length() -> None:
    data = Data(train=tf.data.Dataset.from_tensor_slices(mt.BLOBS).batch(BATCH))
    lengths = Lengths()
    trainer = train(
        mt.Classify(), data, accumulate=4, max_epochs=3, max_steps=7, callbacks=[lengths]
    )
    assert [(length, step) for length, step, _ in lengths.found[:2]] == [(3, 3), (3, 6)]
    assert trainer.steps_per_epoch == 3  # in the third epoch, with two of them run


@engines
def test_accumulation_by_epoch(engine: str) -> None:
    steps = 2 * 10 + 3
    task = mt.Classify(optimizer=keras.optimizers.Adam(0.01))
    data = Data(train=mt.BLOBS, batch_size=BATCH, shuffle=False)
    lengths = Lengths()
    options = {"engine": engine, "accumulate": {0: 1, 2: 4}, "callbacks": [lengths]}
    train(task, data, max_epochs=3, max_steps=steps, **options)
    check(task, bare_classify((BATCH, BATCH, 4 * BATCH), None, None, steps))
    assert lengths.found == [(10, 10, steps), (10, 20, steps), (3, 23, steps)]


# ---- clipping and gradient norms


@engines
@pytest.mark.parametrize("kind", [mt.Classify, mt.ClassifyByHand])
@pytest.mark.parametrize(("option", "limit"), [("clip_norm", 0.5), ("clip_value", 0.1)])
def test_clipping_and_the_norm_before_it(
    option: str, limit: float, kind: type[Task], engine: str
) -> None:
    task, rows = kind(optimizer=keras.optimizers.Adam(0.01)), LogRows()
    options = {option: limit, "log_grad_norm": True, "log_every": "1st", "callbacks": [rows]}
    train(task, mt.BLOBS, engine=engine, **options)
    norm, value = (limit, None) if option == "clip_norm" else (None, limit)
    expected = bare_classify((BATCH,), norm, value)
    check(task, expected)
    assert max(gaps(learnt(task), bare_classify().final).values()) > 1e-3  # it does show
    lengths = [norm for _, _, norm in expected.values]
    assert [row["train/grad_norm"] for _, row in rows.rows] == pytest.approx(lengths, 1e-4)
    assert max(lengths) > 0.5


def test_each_loss_is_clipped_by_itself() -> None:
    task, rows = mt.Cycle("dict"), LogRows()
    options = {"clip_norm": 0.5, "log_grad_norm": True, "log_every": "1st", "callbacks": [rows]}
    train(task, mt.CYCLE_DATA, **options)
    expected = bare_cycle(True, 0.5)
    check(task, expected)
    assert min(gaps(learnt(task), bare_cycle(True).final).values()) > 1e-4
    assert len(rows.rows) == STEPS
    for (_, row), norms in zip(rows.rows, expected.values, strict=True):
        found = {name: row[f"train/grad_norm/{name}"] for name in norms}
        assert found == pytest.approx(norms, 1e-3)


def test_clipping_sees_the_accumulated_gradient() -> None:
    task = mt.Classify(optimizer=keras.optimizers.Adam(0.01))
    train(task, mt.BLOBS, accumulate=4, clip_norm=0.5)
    check(task, bare_classify((4 * BATCH,), 0.5))
    assert max(gaps(learnt(task), bare_classify((4 * BATCH,)).final).values()) > 1e-3


# ---- mistakes


MISTAKES: dict[str, tuple[type[mt.Pair], Callable[[mt.Pair], Any], Any, str, str]] = {
    "automatic": (
        mt.AutomaticPair,
        lambda task: task.minimize(task.judge, "critic"),
        mt.two,
        "minimize was called in automatic optimization",
        "automatic_optimization = False",
    ),
    "unknown": (
        mt.Pair,
        lambda task: task.minimize(task.judge, "critik"),
        mt.two,
        "there is no optimizer 'critik'",
        "Did you mean 'critic'?",
    ),
    "unknown in a dict": (
        mt.Pair,
        lambda task: task.minimize(lambda: {"makr": task.judge()}),
        mt.two,
        "there is no optimizer 'makr'",
        "Did you mean 'maker'?",
    ),
    "nameless": (
        mt.Pair,
        lambda task: task.minimize(task.judge),
        mt.two,
        "which optimizer is meant?",
        "critic, maker",
    ),
    "shared": (
        mt.AutomaticPair,
        lambda task: task.judge(),
        mt.shared,
        "is updated by 'a' and by 'b'",
        "one optimizer",
    ),
    "weightless": (
        mt.Pair,
        lambda task: task.minimize(task.judge, "critic"),
        mt.frozen,
        "the optimizer 'maker' has no weights to update",
        "trainable weights",
    ),
    "twice": (
        mt.Pair,
        lambda task: task.minimize(task.judge, "critic"),
        mt.twice,
        "one optimizer is given twice, the second time for 'maker'",
        "one for each name",
    ),
    "of another model": (
        mt.Pair,
        lambda task: task.minimize(task.judge, "maker"),
        mt.two,
        "the loss does not depend on any weight of maker",
        "under the tape",
    ),
    "state": (
        mt.Pair,
        lambda task: task.variable("quue"),
        mt.two,
        "the task has no variable 'quue'",
        'self.variable("quue", tf.zeros(...))',
    ),
    "average": (
        mt.Pair,
        lambda task: task.ema_of(task.model["critic"], 2),
        mt.two,
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
