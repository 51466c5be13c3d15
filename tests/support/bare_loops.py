"""Every kind of step as a loop written out by hand, and how runs are compared with it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import bare_parts as parts
import keras
import manual_tasks as mt
import tensorflow as tf
from bare_parts import BATCH, STEPS, Bare, bare, batches, build, gaps, run, weights
from helpers import make_trainer

from framework import Data, Task, Trainer


@bare
def bare_wgan() -> Bare:
    models, optimizers = mt.wgan_models(), mt.wgan_optimizers()
    critic, generator = models["critic"], models["generator"]
    build(optimizers, models)
    start = weights(models)

    def fakes(images: tf.Tensor, number: tf.Tensor, stream: int) -> tf.Tensor:
        return generator(parts.noise(number, stream, images, parts.LATENT), training=True)

    def step(batch: tf.Tensor, number: tf.Tensor) -> Any:
        images = parts.real(batch)
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
            output, mean, log_var = whole(
                [x, parts.noise(number, 0, x, parts.LATENT)], training=True
            )
            loss = parts.mean_square(output, x)
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
        x = parts.real(batch)
        first, second = (x + 0.1 * parts.noise(number, k, x, parts.WIDTH) for k in range(2))
        negatives = queue.read_value()
        keys = tf.math.l2_normalize(momentum(second, training=False), -1)
        with tf.GradientTape() as tape:
            loss = mt.contrastive_loss(online(first, training=True), keys, negatives)
        optimizer.apply(tape.gradient(loss, own), own)
        queue.assign(tf.concat([keys, negatives], 0)[: len(mt.QUEUE)])
        for copy, source in zip(momentum.variables, online.variables, strict=True):
            if follows:
                copy.assign(parts.DECAY * copy + (1 - parts.DECAY) * source)

    run(step, mt.CONTRAST_DATA)
    return Bare(start, weights(models, queue=queue), [])


@bare
def bare_meta() -> Bare:
    """The adapted losses of the validation batches, by number of rows, are its values."""
    model, outer = parts.net(1, 8, 1, seed=1), keras.optimizers.Adam(0.02)
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
            speed = [parts.INNER_MOMENTUM * v - parts.INNER_RATE * g for v, g in pairs]
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
    model = mt.image_encoder() if clips else parts.net(3, 4, 2, seed=1)
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
    model, optimizer = parts.net(6, 5, 3, seed=1), keras.optimizers.Adam(0.01)
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
    model = parts.net(6, 5, 4, 3, seed=1)
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
    model, optimizer = parts.net(6, 3, seed=1), keras.optimizers.Adam(0.01)
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


def train(task: Task, data: Any, **options: Any) -> Trainer:
    """Fit for 20 steps, in order."""
    options = {"max_steps": STEPS, **options}
    trainer = make_trainer(**options)
    if not isinstance(data, Data):
        data = Data(train=data, batch_size=BATCH, shuffle=False)
    trainer.fit(task, data)
    assert trainer.progress.step == options["max_steps"]
    return trainer


def learnt(task: Task) -> parts.Weights:
    return weights(task.model, **task.runtime.variables)


def check(task: Task, expected: Bare, *, frozen: Sequence[str] = (), most: float = 1e-5) -> None:
    """All weights as the bare loop's, and none where it began, but of what is frozen."""
    assert max(gaps(learnt(task), expected.final).values()) <= most
    moved = gaps(learnt(task), expected.start)
    assert {name: gap > 1e-2 for name, gap in moved.items()} == {
        name: name not in frozen for name in moved
    }
