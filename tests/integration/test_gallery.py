"""The gallery's tasks: they run by one command, show pictures, and compute what they say."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from event_files import logged
from helpers import LogRows, make_trainer
from places import ROOT
from tiny_images import image_set

from framework import Data, random
from framework.checkpoint.store import CheckpointStore
from framework.datasets.named import to_float
from tasks.cifar100_simclr import Cifar100Simclr, nt_xent
from tasks.gallery import alternating, sheet
from tasks.mnist_vae import MnistVae
from tasks.mnist_wgan_gp import MnistWganGp
from tasks.views import Views

SMALL = {
    "mnist_wgan_gp": ["model.generator_filters=[4,4]", "model.critic_filters=[4]"],
    "mnist_vae": ["model.filters=[2,3]", "model.latent=4"],
    "cifar100_distillation": ["model.teacher_filters=[4,4]", "model.student_filters=[2]"],
    "cifar100_simclr": ["model.filters=[4,8]", "model.projection=4"],
}
METRICS = {
    "mnist_wgan_gp": ({"loss", "wasserstein"}, {"wasserstein"}),
    "mnist_vae": ({"loss", "reconstruction", "divergence"},) * 2,
    "cifar100_distillation": ({"loss", "student_accuracy", "teacher_accuracy"},) * 2,
    "cifar100_simclr": ({"loss", "contrast", "probe_accuracy"},) * 2,
}
PICTURES = {
    "mnist_wgan_gp": {"samples": (28, 224, 1)},
    "mnist_vae": {"samples": (28, 224, 1), "reconstructions": (56, 224, 1)},
    "cifar100_distillation": {"disagreement": (32, 256, 3)},
    "cifar100_simclr": {"views": (64, 256, 3), "neighbours": (256, 256, 3)},
}


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, Any]]:
    """Run a task on tiny image sets and return its result, in an empty working directory."""
    from framework.cli import main

    (tmp_path / "data").mkdir()
    np.savez(tmp_path / "data/mnist.npz", **image_set((28, 28), 10))
    np.savez(tmp_path / "data/cifar100.npz", **image_set((32, 32, 3), 100))
    monkeypatch.chdir(tmp_path)

    def call(task: str, *words: str, code: int = 0) -> dict[str, Any]:
        fixed = ["--config-dir", str(ROOT / "conf"), "data.dir=data", "run_dir=r"]
        quiet = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
        small = ["data.batch_size=30", "task.pictures=8", "trainer.max_epochs=1"]
        given = [f"task={task}", *fixed, *quiet, *small, *SMALL[task], *words]
        assert main(given) == code, capfd.readouterr().err
        found: dict[str, Any] = json.loads(Path("r/result.json").read_text()) if not code else {}
        return found

    return call


@pytest.mark.parametrize("precision", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("task", SMALL)
def test_a_task_trains_tests_and_shows_pictures(task: str, precision: str, run: Any) -> None:
    result = run(task, f"trainer.precision={precision}")
    assert (result["status"], result["epoch"], result["global_step"]) == ("completed", 1, 3)
    assert result["task"] == task
    train, test = METRICS[task]
    wanted = {f"train/{name}" for name in train} | {f"test/{name}" for name in test}
    if precision == "mixed_float16":
        wanted |= {"train/loss_scale", "train/skipped_updates"}
    rates = {name for name in result["metrics"] if name.startswith("train/learning_rate")}
    assert rates
    assert set(result["metrics"]) - rates == wanted
    assert all(math.isfinite(value) for value in result["metrics"].values())
    found = logged(Path("r"))
    assert {tag: images[-1][1].shape[1:] for tag, images in found.items()} == PICTURES[task]
    for tag, images in found.items():
        assert [step for step, _ in images] == [3], tag
        assert np.ptp(images[0][1]) > 0, f"{tag} is blank"


@pytest.mark.parametrize("task", SMALL)
def test_a_task_runs_line_by_line_and_in_evaluation(task: str, run: Any) -> None:
    eager = run(task, "trainer.engine=eager", "trainer.max_steps=1")
    assert eager["global_step"] == 1
    assert set(logged(Path("r"))) == set(PICTURES[task]), "a run cut short shows them as well"
    tested = run(task, "mode=test", "checkpoint=last")
    names = {f"test/{name}" for name in METRICS[task][1]}
    assert {n: tested["metrics"][n] for n in names} == pytest.approx(
        {n: eager["metrics"][n] for n in names}, rel=1e-5
    )


@pytest.mark.parametrize("task", ["mnist_vae", "cifar100_simclr"])
def test_a_run_can_be_repeated_to_the_bit_and_its_seed_changes_it(task: str, run: Any) -> None:
    def loss(*words: str) -> float:
        return float(run(task, "trainer.max_steps=2", *words)["metrics"]["train/loss"])

    first = loss()
    Path("r").rename("first")
    assert loss() == first
    Path("r").rename("second")
    assert loss("seed=1") != first


@pytest.mark.parametrize("task", SMALL)
def test_a_task_fits_on_a_page_and_says_what_it_is(task: str) -> None:
    source = ROOT / "tasks" / f"{task}.py"
    assert len(source.read_text().splitlines()) < 80
    first, second = (ROOT / "conf/task" / f"{task}.yaml").read_text().splitlines()[:2]
    assert first == "# @package _global_"
    assert second.startswith(("# MNIST, ", "# CIFAR-100, "))


KNOBS = {
    "mnist_wgan_gp": ["task.critic_updates=2", "task.penalty=1", "task.ema=0.5", "model.latent=3"],
    "mnist_vae": ["task.beta=0", "model.kernel_size=3", "model.activation=elu"],
    "cifar100_distillation": ["task.soft=0", "task.temperature=1", "model.kernel_size=1"],
    "cifar100_simclr": ["task.temperature=1", "task.contrast=0", "task.views.crop=1"],
}


@pytest.mark.parametrize("task", KNOBS)
def test_every_knob_changes_the_run(task: str, run: Any) -> None:
    def loss(number: int, *words: str) -> float:
        # Line by line: for two steps nothing has to be compiled.
        metrics = run(task, "trainer.max_steps=2", "trainer.engine=eager", *words)["metrics"]
        Path("r").rename(f"run{number}")
        return float(metrics["test/wasserstein" if "gan" in task else "train/loss"])

    plain = loss(0)
    for number, knob in enumerate(KNOBS[task], 1):
        assert loss(number, knob) != plain, knob


def test_a_student_learns_from_an_earlier_runs_teacher(run: Any) -> None:
    def weights(run_dir: str, name: str) -> list[np.ndarray]:
        store = CheckpointStore(Path(run_dir) / "checkpoints")
        return list(store.load(store.find("last"))["models"][name].values())

    run("cifar100_distillation")
    Path("r").rename("earlier")
    run("cifar100_distillation", "task.teacher=earlier", "seed=1")
    for before, after in zip(weights("earlier", "teacher"), weights("r", "teacher"), strict=True):
        np.testing.assert_array_equal(before, after)
    students = weights("earlier", "student"), weights("r", "student")
    assert all(np.ptp(a - b) > 0 for a, b in zip(*students, strict=True) if a.ndim > 1)
    run("cifar100_distillation", "task.teacher=nowhere", "run_dir=other", code=2)


def images(rows: int = 8) -> tf.Tensor:
    return to_float((image_set((28, 28), 10, rows)["x_train"], np.zeros(rows)))[0]


def test_the_vaes_loss_is_what_numpy_says() -> None:
    network = SimpleNamespace(latent=3, filters=[2, 2], kernel_size=3, activation="tanh")
    task = MnistVae(model=network, beta=2.0, seed=5, optimizer=keras.optimizers.SGD(0.0))
    task.pictures = dict  # type: ignore[method-assign]
    x = images()
    rows = LogRows()
    make_trainer(max_steps=1, callbacks=[rows], log_every="1st", seed=6).fit(
        task, Data(train=(x, np.zeros(8)), batch_size=8, shuffle=False)
    )
    ((_, found),) = rows.rows
    model = task.model
    parts = keras.Model(model.inputs[0], model.get_layer("latent").input[:2])
    mean, log_variance = (np.asarray(part, np.float64) for part in parts(x))
    noise = random.normal([8, 3], random.fold([6, 0], 0, 0, 0, 0)).numpy()
    code = (mean + np.exp(log_variance / 2) * noise).astype("float32")
    # The decoder as it was in training: by its batch's own statistics.
    logits = np.asarray(model.get_layer("decoder")(code, training=True), np.float64)
    pixels = np.asarray(x, np.float64)
    entropy = np.logaddexp(0, logits) - pixels * logits
    reconstruction = entropy.sum(axis=(1, 2, 3)).mean()
    divergence = 0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(axis=1).mean()
    assert divergence > 0
    assert found["train/reconstruction"] == pytest.approx(reconstruction, rel=1e-5)
    assert found["train/divergence"] == pytest.approx(2 * divergence, rel=1e-5)
    assert found["train/loss"] == pytest.approx(reconstruction + 2 * divergence, rel=1e-5)


def test_the_critics_loss_is_what_numpy_says() -> None:
    class Linear(MnistWganGp):
        """A critic whose slope is its weights, everywhere."""

        def build_model(self) -> dict[str, keras.Model]:
            flat = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten()])
            flat.add(keras.layers.Dense(1))
            draw = [keras.Input((2,)), keras.layers.Dense(784), keras.layers.Reshape((28, 28, 1))]
            generator = keras.Sequential(draw)
            average = self.ema_of(generator, 0.5)
            return {"critic": flat, "generator": generator, "average": average}

    network = SimpleNamespace(latent=2)
    still = {"critic_updates": 1, "optimizer": lambda: keras.optimizers.SGD(0.0)}
    task, rows, x = Linear(model=network, penalty=3.0, seed=5, **still), LogRows(), images()
    task.pictures = dict  # type: ignore[method-assign]
    make_trainer(max_steps=1, callbacks=[rows], log_every="1st", seed=6).fit(
        task, Data(train=(x, np.zeros(8)), batch_size=8, shuffle=False)
    )
    seed = random.fold([6, 0], 0, 0, 0, 1)
    fakes = task.model["generator"](random.normal([8, 2], seed))
    weights = task.model["critic"].get_weights()[0].astype(np.float64)
    score = [(np.asarray(part).reshape(8, -1) @ weights).mean() for part in (x, fakes)]
    distance, slope = score[0] - score[1], np.sqrt((weights**2).sum())
    ((_, found),) = rows.rows
    assert found["train/wasserstein"] == pytest.approx(distance, rel=1e-4)
    assert found["train/loss"] == pytest.approx(3 * (slope - 1) ** 2 - distance, rel=1e-4)


def test_nt_xent_is_what_numpy_says() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.normal(size=(2, 5, 3))
    views = np.concatenate([left, right])
    views /= np.sqrt((views**2).sum(axis=1, keepdims=True))
    terms = []
    for i in range(10):
        likeness = {j: views[i] @ views[j] / 0.3 for j in range(10) if j != i}
        total = np.log(sum(np.exp(v) for v in likeness.values()))
        terms.append(total - likeness[(i + 5) % 10])
    assert float(nt_xent(left, right, 0.3)) == pytest.approx(np.mean(terms), rel=1e-6)
    single = nt_xent(left.astype("float32"), right.astype("float32"), 0.3)
    assert float(single) == pytest.approx(np.mean(terms), rel=1e-5)
    assert float(nt_xent(left, left, 0.01)) == pytest.approx(0, abs=1e-6)


def test_contrast_on_two_devices_is_that_of_the_whole_batch() -> None:
    class Plain(Cifar100Simclr):
        """No batch norm, which would see each device's rows alone."""

        def build_model(self) -> dict[str, keras.Model]:
            layers = [keras.layers.Flatten(), keras.layers.Dense(4, activation="tanh")]
            return {
                "encoder": keras.Sequential([keras.Input((32, 32, 3)), *layers]),
                "head": keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)]),
                "probe": keras.Sequential([keras.Input((4,)), keras.layers.Dense(100)]),
            }

    arrays = image_set((32, 32, 3), 100, 22)
    x, y = to_float((arrays["x_train"], arrays["y_train"].astype("int64")))
    weights = []
    for devices in (1, 2):
        task = Plain(
            views=lambda batch, seed: batch,
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            optimizer=lambda: keras.optimizers.SGD(0.1),
        )
        task.pictures = dict  # type: ignore[method-assign]
        make_trainer(max_epochs=2, devices=devices).fit(
            task, Data(train=(x, y), batch_size=8, shuffle=False)
        )
        weights.append([w for m in task.model.values() for w in m.get_weights()])
    for one, two in zip(*weights, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)


def test_views_are_images_that_depend_on_the_seed_alone() -> None:
    x = tf.constant(np.random.default_rng(0).random((16, 32, 32, 3), np.float32))
    first, again, other = (Views()(x, [0, s]).numpy() for s in (1, 1, 2))
    assert first.shape == x.shape
    assert first.min() >= 0
    assert first.max() <= 1
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)
    still = Views(crop=1.0, light=0.0, colour=0.0, grey=0.0)(x, [0, 1]).numpy()
    for view, image in zip(still, x.numpy(), strict=True):
        mirrored = np.allclose(view, image[:, ::-1], atol=1e-4)
        assert mirrored or np.allclose(view, image, atol=1e-4)
    grey = Views(grey=1.0, colour=0.0)(x, [0, 1]).numpy()
    np.testing.assert_allclose(grey[..., 0], grey[..., 2], atol=1e-6)


def test_a_sheet_shows_its_images_row_by_row() -> None:
    x = np.arange(3 * 2 * 2 * 1, dtype=np.float32).reshape(3, 2, 2, 1)
    shown = sheet(x, columns=2)
    assert shown.shape == (1, 4, 4, 1)
    np.testing.assert_array_equal(shown[0, :2, :2], x[0])
    np.testing.assert_array_equal(shown[0, :2, 2:], x[1])
    np.testing.assert_array_equal(shown[0, 2:, :2], x[2])
    assert not shown[0, 2:, 2:].any()
    mixed = alternating(tf.constant(x), tf.constant(-x))
    np.testing.assert_array_equal(mixed, np.stack([x[0], -x[0], x[1], -x[1], x[2], -x[2]]))
