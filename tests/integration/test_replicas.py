"""Several devices that share each step do what one device does at the same global batch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    CLASSES,
    FEATURES,
    Initial,
    Net,
    blobs,
    busy_data,
    cross_entropy,
    dense,
    differing,
    fitted,
    make_trainer,
    noisy,
)

from framework import Callback, Data, Every, Task, Trainer, UserError
from framework.callbacks.ema import EMA
from framework.loop.compiled import Loop

# 21 steps. A batch of 5 on 4 devices is 1, 1, 1, 2 rows; the last one, of 3, leaves one none.
DATA = Data(train=blobs(103), val=blobs(23, seed=1), batch_size=5)


class Everything(Net):
    """A loss object of Keras, a regularizer, a Keras metric."""

    def build_model(self) -> keras.Model:
        self.auc = keras.metrics.Mean()
        hidden = keras.layers.Dense(
            8, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01)
        )
        return keras.Sequential([keras.Input((FEATURES,)), hidden, keras.layers.Dense(CLASSES)])

    def train_step(self, batch: Any) -> tf.Tensor:
        x, y = batch
        logits = self.model(x, training=True)
        self.log("accuracy", keras.metrics.sparse_categorical_accuracy(y, logits))
        self.auc.update_state(tf.cast(logits[:, 0], tf.float32))
        self.log("mean", self.auc)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)(y, logits)


class TwoPlayers(Task):
    """Two optimizers by hand, several updates a batch."""

    automatic_optimization = False

    def build_model(self) -> Any:
        layers = {name: keras.layers.Dense(4, activation="tanh") for name in ("a", "b")}
        return {n: keras.Sequential([keras.Input((FEATURES,)), d]) for n, d in layers.items()}

    def configure_optimizers(self) -> Any:
        return {"a": keras.optimizers.Adam(0.01), "b": keras.optimizers.SGD(0.1, momentum=0.9)}

    def train_step(self, batch: Any) -> None:
        x, _ = batch

        def distance() -> tf.Tensor:
            return tf.reduce_mean((self.model["a"](x) - 2 * self.model["b"](x) + 1) ** 2)

        for _ in range(2):
            self.minimize(distance, "a")
        self.log("distance", self.minimize(lambda: -0.1 * distance() + 1.0, "b"))

    def eval_step(self, batch: Any) -> None:
        self.log("a", self.model["a"](batch[0]))


def weights_of(trainer: Trainer) -> list[np.ndarray]:
    models = trainer.state()["models"]
    return [value for model in models.values() for value in model.values()]


def furthest(left: Trainer, right: Trainer) -> float:
    pairs = zip(weights_of(left), weights_of(right), strict=True)
    return max(float(np.abs(a.astype("f8") - b.astype("f8")).max()) for a, b in pairs)


@cache
def on_one_device() -> tuple[Trainer, list[np.ndarray]]:
    """A run of `Everything` on one device, and the weights that it began with."""
    initial = Initial()
    return fitted(Everything(), DATA, callbacks=[initial]), initial.weights


@pytest.mark.parametrize(
    ("task", "options", "tolerance"),
    [
        (Everything, {}, 1e-5),
        (Everything, {"accumulate": 4, "clip_norm": 0.1, "log_grad_norm": True}, 1e-5),
        (Everything, {"precision": "mixed_float16"}, 1e-3),
        (Everything, {"precision": "mixed_bfloat16"}, 1e-2),
        (Everything, {"precision": "float64"}, 1e-12),
        (Everything, {"engine": "eager"}, 1e-5),
        (TwoPlayers, {}, 1e-5),
    ],
)
def test_two_devices_equal_one(task: type[Task], options: Any, tolerance: float) -> None:
    plain = task is Everything and not options
    one = on_one_device()[0] if plain else fitted(task(), DATA, **options)
    two = fitted(task(), DATA, devices=2, **options)
    assert one.progress.step == two.progress.step == (6 if "accumulate" in options else 21)
    assert furthest(one, two) <= tolerance
    assert one.metrics.keys() == two.metrics.keys()
    for name, value in one.metrics.items():
        assert two.metrics[name] == pytest.approx(value, rel=max(tolerance, 1e-6), abs=tolerance)
    assert two.result()["device"] == "CPU:0, CPU:1"


def test_four_devices_equal_one_where_the_last_batch_leaves_one_without_rows() -> None:
    one, initial = on_one_device()
    four = fitted(Everything(), DATA, devices="all")
    assert four.result()["device"] == ", ".join(f"CPU:{i}" for i in range(4))
    assert furthest(one, four) <= 1e-5
    for name, value in one.metrics.items():
        assert four.metrics[name] == pytest.approx(value, rel=1e-6, abs=1e-6)
    moved = [np.abs(a - b).max() for a, b in zip(initial, weights_of(one), strict=True)]
    assert min(moved) > 1e-3


class Slope(Task):
    """One weight w; the loss is the mean of x * w, so the gradient is the mean of x."""

    def build_model(self) -> keras.Model:
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        return keras.Sequential([keras.Input((1,)), layer])

    def train_step(self, batch: Any) -> Any:
        return tf.reduce_mean(self.model(batch[0]))

    def eval_step(self, batch: Any) -> None: ...


@pytest.mark.parametrize(
    ("optimizer", "options", "moved"),
    [
        ({}, {}, 5.05),
        ({}, {"clip_norm": 1.0}, 1.0),
        ({}, {"clip_value": 1.0}, 1.0),
        ({"global_clipnorm": 1.0}, {}, 1.0),
        ({"clipnorm": 1.0}, {}, 1.0),
        ({"clipvalue": 2.0}, {}, 2.0),
    ],
)
def test_clipping_acts_on_the_gradient_of_the_whole_batch(
    optimizer: Any, options: Any, moved: float
) -> None:
    # The first device's gradient is 10, the second one's 0.1; clipped one by one they would
    # move the weight by (1 + 0.1) / 2.
    data = Data(train=(np.array([[10.0], [0.1]], "f4"),), batch_size=2, shuffle=False)
    task = Slope(optimizer=keras.optimizers.SGD(1.0, **optimizer))
    trainer = fitted(task, data, max_steps=1, devices=2, **options)
    assert weights_of(trainer)[0].item() == pytest.approx(-moved, rel=1e-6)


def test_an_overflow_on_the_second_device_alone_touches_nothing() -> None:
    # 70,000 is beyond float16: the second device's gradient is infinite, the first one's is 1.
    x = np.array([[1.0], [7e4], [1.0], [1.0]], "f4")
    trainer = make_trainer(max_steps=1, devices=2, precision="mixed_float16", stop_on_nan=False)
    task = Slope(optimizer=keras.optimizers.Adam(0.5))
    trainer.fit(task, Data(train=(x,), batch_size=2, shuffle=False))
    state = trainer.state()
    assert weights_of(trainer)[0].item() == 0.0
    assert all(not np.any(v) for k, v in state["optimizers"]["optimizer"].items() if "mom" in k)
    assert (state["loss_scale"]["value"], state["loss_scale"]["skipped"]) == (2.0**14, 1)
    copies = task.model.weights[0].value.values
    assert [float(copy.numpy().item()) for copy in copies] == [0.0, 0.0]
    assert trainer.metrics["train/skipped_updates"] == 1.0

    good = fitted(
        Slope(optimizer=keras.optimizers.Adam(0.5)),
        Data(train=(x[2:],), batch_size=2),
        max_steps=1,
        devices=2,
        precision="mixed_float16",
    )
    assert weights_of(good)[0].item() == pytest.approx(-0.5, rel=1e-3)


class Masks(Task):
    """Keeps the dropout masks of the last step."""

    def build_model(self) -> keras.Model:
        self.variable("masks", np.zeros((8, 64), "f4"))
        layers = [keras.layers.Dropout(0.5), keras.layers.Dense(1)]
        return keras.Sequential([keras.Input((64,)), *layers])

    def train_step(self, batch: Any) -> Any:
        dropped = self.model.layers[0](batch[0], training=True)
        self.variable("masks").assign(self.gather(dropped))
        return tf.reduce_mean(self.model(batch[0], training=True))

    def eval_step(self, batch: Any) -> None: ...


@pytest.mark.parametrize("devices", [1, 4])
def test_dropout_masks_differ_between_devices(devices: int) -> None:
    data = Data(train=(np.ones((8, 64), "f4"),), batch_size=8)
    trainer = fitted(Masks(), data, max_steps=1, devices=devices)
    masks = trainer.state()["task"]["masks"]
    assert set(np.unique(masks)) == {0.0, 2.0}
    assert len({row.tobytes() for row in masks}) == 8  # alike seeds would repeat rows
    again = fitted(Masks(), data, max_steps=1, devices=devices)
    np.testing.assert_array_equal(again.state()["task"]["masks"], masks)


def test_batch_statistics_are_the_mean_by_rows_on_every_device() -> None:
    x = np.random.RandomState(0).randn(5, 3).astype("f4")

    class Normalised(Slope):
        def build_model(self) -> keras.Model:
            return keras.Sequential(
                [keras.Input((3,)), keras.layers.BatchNormalization(momentum=0.5)]
            )

        def train_step(self, batch: Any) -> Any:
            return tf.reduce_mean(self.model(batch[0], training=True) ** 2)

    task = Normalised(optimizer="sgd")
    fitted(task, Data(train=(x,), batch_size=5, shuffle=False), max_steps=1, devices=2)
    mean = task.model.layers[0].moving_mean
    parts = [(x[:2].mean(0), 2 / 5), (x[2:].mean(0), 3 / 5)]
    for copy in mean.value.values:
        wanted = 0.5 * sum(part * share for part, share in parts)
        np.testing.assert_allclose(copy.numpy(), wanted, atol=1e-6)


def test_an_average_on_two_devices_equals_that_on_one() -> None:
    def run(devices: int) -> dict[str, Any]:
        trainer = make_trainer(devices=devices, callbacks=[EMA(decay=0.9)])
        trainer.fit(Net(), DATA)
        return {"val": trainer.metrics["val/loss"], **trainer.state()["averages"]["EMA"]["copies"]}

    one, two = run(1), run(2)
    for left, right in zip(one.values(), two.values(), strict=True):
        np.testing.assert_allclose(left, right, atol=1e-6)


def test_cutting_a_run_or_continuing_it_changes_no_bit(tmp_path: Path) -> None:
    class Nothing(Callback):
        every = Every("7st")

    data = busy_data(val=None)
    whole = fitted(Net(noisy), data, max_epochs=2, devices=2, log_every="1000st")
    options = {"devices": 2, "run_dir": tmp_path / "r"}
    fitted(Net(noisy), data, max_steps=17, max_epochs=2, callbacks=[Nothing()], **options)
    rest = fitted(Net(noisy), data, max_epochs=2, log_every="1st", **options)
    assert rest.progress.step == whole.progress.step == 26
    assert differing(whole, rest) == []


def test_a_stream_of_batches_of_unknown_size_is_shared_too() -> None:
    def stream() -> Data:
        batches = tf.data.Dataset.from_tensor_slices(blobs(23)).batch(5)
        return Data(train=batches, val=batches)

    one = fitted(Everything(), stream(), max_epochs=1)
    two = fitted(Everything(), stream(), max_epochs=1, devices=4)
    assert furthest(one, two) <= 1e-5
    assert two.metrics["val/loss"] == pytest.approx(one.metrics["val/loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("options", "what", "fix"),
    [
        ({"devices": 0}, "devices is 0", "a count of 1 or more, or all"),
        ({"devices": "most"}, "devices is 'most'", "all"),
        ({"devices": 9}, "devices=9, but there are 4 CPU devices", "before the first tensor"),
        ({"devices": 2, "device": "cpu:1"}, "device=cpu:1 is one device", "leave devices at 1"),
    ],
)
def test_devices_that_there_are_not(options: Any, what: str, fix: str) -> None:
    with pytest.raises(UserError) as error:
        make_trainer(**options).fit(Net(), DATA)
    assert what in error.value.what
    assert fix in str(error.value.fix)


def test_a_model_that_was_made_before_is_refused() -> None:
    model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(CLASSES)])
    with pytest.raises(UserError, match="is on one device, not on all 2"):
        make_trainer(devices=2).fit(Net(lambda: model), DATA)


def test_sparse_gradients_are_added_up_before_they_are_looked_at() -> None:
    class Words(Task):
        """Eight rows name word 0 three times each: its gradient is 24 / 8 * 3 and the like."""

        def build_model(self) -> keras.Model:
            words = keras.layers.Embedding(5, 2, embeddings_initializer="ones")
            return keras.Sequential([keras.Input((3,), dtype="int32"), words])

        def train_step(self, batch: Any) -> Any:
            return tf.reduce_mean(tf.reduce_sum(self.model(batch[0]), [1, 2]))

        def eval_step(self, batch: Any) -> None: ...

    data = Data(train=(np.zeros((8, 3), "i4"),), batch_size=8)
    for devices in (1, 2):
        task = Words(optimizer=keras.optimizers.SGD(1.0))
        options = {"clip_norm": 1.0, "log_grad_norm": True, "devices": devices}
        trainer = fitted(task, data, max_steps=1, **options)
        assert trainer.metrics["train/grad_norm"] == pytest.approx(3 * 2**0.5, rel=1e-6)
        moved = 1.0 - task.model.get_weights()[0]
        np.testing.assert_allclose(moved[0], [0.5**0.5] * 2, rtol=1e-6)
        np.testing.assert_array_equal(moved[1:], 0.0)


def test_leaves_that_are_no_rows_go_to_every_device_whole() -> None:
    class Prior(Net):
        def train_step(self, batch: Any) -> Any:
            self.log("prior", tf.reduce_sum(batch["prior"]))
            return super().train_step((batch["x"], batch["y"]))

    x, y = blobs(9)
    batches = tf.data.Dataset.from_tensor_slices({"x": x, "y": y}).batch(4)
    stream = batches.map(lambda b: {**b, "prior": tf.constant([0.0, 1.0, 2.0]), "one": 1.0})
    data = {"x": x, "y": y}
    for options in ({"devices": 2}, {"accumulate": 2}, {"accumulate": 2, "devices": 2}):
        for train in (data,) if "accumulate" in options else (stream, data):
            extra = {"prior": tf.constant([0.0, 1.0, 2.0]), "one": 1.0}
            given = Data(train=train, batch_size=4, map=lambda b, e=extra: {**b, **e})
            trainer = fitted(Prior(), given, **options)
            assert trainer.metrics["train/prior"] == 3.0, options
    with pytest.raises(UserError, match="have different numbers of rows"):
        fitted(Prior(), Data(train=stream), accumulate=2)


def test_a_device_without_rows_takes_part_in_everything() -> None:
    """The last batch has one row: synchronised norms, accumulation, gathering, Keras metrics."""

    class All(Net):
        def build_model(self) -> keras.Model:
            norm = keras.layers.BatchNormalization(synchronized=True)
            layers = [keras.layers.Dense(4), norm, keras.layers.Dense(CLASSES)]
            return keras.Sequential([keras.Input((FEATURES,)), *layers])

        def train_step(self, batch: Any) -> Any:
            self.log("gathered", tf.shape(self.gather(batch[0]))[0])
            self.log_metrics(batch[1], self.model(batch[0]))
            return super().train_step(batch)

    def run(**options: Any) -> Trainer:
        metrics = {"error": keras.metrics.SparseCategoricalCrossentropy(from_logits=True)}
        return fitted(All(metrics=metrics), Data(train=blobs(17), batch_size=8), **options)

    one, two = run(), run(devices=2)
    assert furthest(one, two) <= 1e-5
    for name in ("train/error", "train/loss", "train/gathered"):
        assert two.metrics[name] == pytest.approx(one.metrics[name], rel=1e-5)
    four = fitted(Net(dense), Data(train=blobs(17), batch_size=4), devices=4, accumulate=2)
    alone = fitted(Net(dense), Data(train=blobs(17), batch_size=4), accumulate=2)
    assert furthest(alone, four) <= 1e-5


def test_what_a_device_without_rows_makes_of_one_row_counts_for_nothing() -> None:
    """The last batch has one row, of which the first device makes NaN, which does not count."""
    x, y = blobs(17)
    mask = np.ones(17, "float32")
    mask[:8:3] = 0.0

    class Masked(Net):
        def build_model(self) -> keras.Model:
            norm = keras.layers.BatchNormalization()
            return keras.Sequential([keras.Input((FEATURES,)), norm, keras.layers.Dense(CLASSES)])

        def train_step(self, batch: Any) -> tf.Tensor:
            x, y, counted = batch
            # On the device without rows alone, whose part is a row that is another's.
            there = tf.distribute.get_replica_context().replica_id_in_sync_group
            none = tf.logical_and(there == 0, tf.shape(x)[0] == 1)
            losses = cross_entropy(y, self.model(x / tf.where(none, 0.0, 1.0), training=True))
            count = tf.reduce_sum(counted)
            self.log("masked", tf.reduce_sum(losses * counted) / count, weight=count)
            return tf.reduce_mean(losses)

    data = Data(train=(x, y, mask), batch_size=16, shuffle=False)
    trainer = fitted(Masked(), data, devices=2, max_epochs=1)
    for model in trainer.state()["models"].values():
        assert all(np.isfinite(value).all() for value in model.values())

    class Counted(Net):
        def train_step(self, batch: Any) -> tf.Tensor:
            self.log("weight", batch[2], weight=tf.reduce_sum(batch[2]))
            return tf.reduce_mean(cross_entropy(batch[1], self.model(batch[0])))

    # 13 of 16 rows in two halves of 8 (5 and 8), and one row that is not counted twice.
    counted = fitted(Counted(), data, devices=2, max_epochs=1).metrics["train/weight"]
    assert counted == pytest.approx((5 * 5 / 8 + 8 + 1) / 14)


def test_a_float16_run_on_two_devices_with_an_average_is_saved_and_tested(tmp_path: Path) -> None:
    options = {"devices": 2, "precision": "mixed_float16", "run_dir": tmp_path / "r"}
    trainer = make_trainer(max_epochs=1, callbacks=[EMA(decay=0.5)], **options)
    task = Net(dense)
    trainer.fit(task, DATA)
    again = trainer.test(task, Data(test=DATA.val, batch_size=5))
    assert again["test/loss"] == pytest.approx(trainer.metrics["val/loss"], rel=1e-6)


def test_an_optimizer_that_was_made_before_keeps_what_it_excludes() -> None:
    def run(devices: int) -> Trainer:
        adamw = keras.optimizers.AdamW(0.01, weight_decay=0.5)
        adamw.exclude_from_weight_decay(var_names=["kernel"])
        return fitted(Net(dense, optimizer=adamw), DATA, devices=devices)

    assert furthest(run(1), run(2)) <= 1e-5


@pytest.mark.parametrize(
    ("optimizer", "what"),
    [
        ({"gradient_accumulation_steps": 2}, "branches inside it"),
        ({"use_ema": True, "ema_overwrite_frequency": 3}, "branches inside it"),
    ],
)
def test_what_an_optimizer_cannot_do_on_several_devices(optimizer: Any, what: str) -> None:
    with pytest.raises(UserError, match=what):
        fitted(Net(optimizer=keras.optimizers.SGD(0.1, **optimizer)), DATA, devices=2)


def test_an_update_in_a_loop_on_tensors_is_explained() -> None:
    class Looped(TwoPlayers):
        def train_step(self, batch: Any) -> None:
            for _ in tf.range(2):
                self.minimize(lambda: tf.reduce_mean(self.model["a"](batch[0]) ** 2), "a")

    fitted(Looped(), DATA, max_steps=2)
    with pytest.raises(UserError, match="inside a branch or loop on tensors"):
        fitted(Looped(), DATA, max_steps=2, devices=2)


def test_an_average_of_batch_statistics_is_of_all_devices() -> None:
    def build() -> keras.Model:
        layers = [keras.Input((FEATURES,)), keras.layers.BatchNormalization()]
        return keras.Sequential([*layers, keras.layers.Dense(CLASSES)])

    def averaged_mean(devices: int) -> np.ndarray:
        ema = EMA(decay=0.5)
        fitted(Net(build), DATA, callbacks=[ema], devices=devices)
        pairs = zip(ema.average.sources, ema.average.copies, strict=True)
        (found,) = (copy for source, copy in pairs if source.path.endswith("moving_mean"))
        return np.asarray(found.numpy())

    np.testing.assert_allclose(averaged_mean(2), averaged_mean(1), atol=1e-6)


def test_nothing_ties_together_what_devices_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    # Around an IdentityN, TensorFlow's optimizer loses the order of reads and assignments: a
    # moving mean that is followed by an average was then, once in 10,000 steps, a step off.
    loops: list[Loop] = []
    trace = Loop.trace
    monkeypatch.setattr(
        Loop, "trace", lambda self, *args: (loops.append(self), trace(self, *args))[1]
    )
    fitted(Net(), DATA, callbacks=[EMA()], devices=2)
    functions = [f for loop in loops for run in loop._runs.values() for f in library(run)]
    found = {node.op for function in functions for node in function.node_def}
    assert "AddN" in found
    assert "IdentityN" not in found


def library(run: Any) -> Any:
    return run.graph.as_graph_def().library.function
