"""The gallery's tasks on files: a table, texts and images, beside what NumPy computes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import keras
import numpy as np
import pytest
from helpers import make_trainer
from places import ROOT

from framework import UserError, load
from framework.datasets.image_folder import image_folder
from framework.datasets.preprocessing import FILE, load_preprocessing
from framework.datasets.table_data import table_data
from tasks import samples
from tasks.folder_transfer import FolderTransfer
from tasks.text_embedding import TextEmbedding


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., str]:
    """Run a command in an empty directory, and return what it says."""
    from framework.cli import main

    monkeypatch.chdir(tmp_path)

    def call(*words: str, code: int = 0) -> str:
        quiet = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
        found = main(["--config-dir", str(ROOT / "conf"), "run_dir=r", *quiet, *words])
        said = capfd.readouterr()
        assert found == code, said.err
        return said.err + said.out

    return call


@pytest.fixture
def payments(tmp_path: Path) -> Path:
    pytest.importorskip("pyarrow", reason="tables need the extra [table]")
    samples.write_payments(tmp_path / "payments.csv", 600)
    return tmp_path / "payments.csv"


def area(labels: np.ndarray, scores: np.ndarray) -> float:
    """Return the share of pairs of both classes that scores have in the right order."""
    above = scores[labels == 1][:, None] - scores[labels == 0]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def test_a_rare_class_in_a_table(payments: Path, run: Callable[..., str]) -> None:
    task = ["task=table_imbalance", "data.file=payments.csv", "data.test_fraction=0.4"]
    run(*task, "data.batch_size=32", "trainer.max_epochs=3")
    metrics = json.loads(Path("r/result.json").read_text())["metrics"]
    run(*task, "data.batch_size=32", "mode=predict", "checkpoint=last")
    scores = np.load("r/predictions.npz")["predictions"].ravel().astype("float64")
    labels = table_data(payments, target="fraud", test_fraction=0.4).test[1]
    assert labels.sum() in range(5, 25)
    # Keras counts pairs between 200 thresholds, which only some of the scores lie between.
    assert metrics["test/auc"] == pytest.approx(area(labels, scores), abs=0.01)
    assert metrics["test/auc"] > 0.7
    losses = -np.where(labels == 1, np.log(scores), np.log1p(-scores))
    assert metrics["test/loss"] == pytest.approx(losses.mean(), rel=1e-4)

    # New rows, without the training data; then in the run's own way, without the framework's.
    Path("new.csv").write_text("amount,hour,country\n22.5,3,US\n,12,FR\n")
    new = ["data.file=null", "data.test_fraction=0", "data.fitted=r", "data.predict=new.csv"]
    said = run("task=table_imbalance", *new, "data.batch_size=32", "mode=predict")
    assert "country: 1 of 2 predict rows have a value" in said
    predicted = np.load("r/predictions.npz")["predictions"]
    assert predicted.shape == (2, 1)
    run("mode=predict", "predict.file=new.csv", "predict.to=p.npz")
    np.testing.assert_array_equal(np.load("p.npz")["predictions"], predicted)
    new_rows = {"amount": [22.5, np.nan], "hour": [3, 12], "country": ["US", "FR"]}
    np.testing.assert_allclose(load("r").predict(new_rows), predicted, rtol=1e-6)
    inputs = load_preprocessing("r/checkpoints")({"amount": [22.5], "hour": [3], "country": ["US"]})
    state = json.loads((Path("r") / FILE).read_text())["state"]
    wanted = [
        (v - c["mean"]) / c["scale"] for v, c in zip((22.5, 3), state["numbers"], strict=True)
    ]
    np.testing.assert_allclose(inputs["numbers"][0], wanted, rtol=1e-6)

    # Other training rows would be prepared in another way.
    lines = payments.read_text().splitlines(keepends=True)
    payments.write_text("".join(lines[:-9]))
    for mode in ("fit", "test"):
        said = run(*task, "data.batch_size=32", f"mode={mode}", "trainer.max_epochs=4", code=2)
        assert "state.numbers[0].mean was" in said
    (Path("r") / FILE).write_text("{")
    with pytest.raises(UserError, match=r"preprocessing.json cannot be read"):
        load_preprocessing("r")


def test_the_mean_of_a_texts_words_does_not_depend_on_its_padding() -> None:
    table = {"t": ["a b", "b c c", "a", "zzz b", ""], "y": ["n", "p", "n", "p", "p"]}
    network = SimpleNamespace(embedding=3, dropout=0.0)
    found = []
    for length in (3, 7):
        data = table_data(table, target="y", text=["t"], text_length=length, batch_size=5)
        task = TextEmbedding(model=network, loss=keras.losses.SparseCategoricalCrossentropy())
        trainer = make_trainer(max_steps=1)
        trainer.fit(task, data)
        embedding, kernel, bias = (w.astype("float64") for w in task.model.get_weights())
        ids = data.train[0]["t"]
        means = [embedding[row[row > 0]].mean(0) for row in ids]
        logits = np.stack(means) @ kernel + bias
        wanted = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        predicted = task.model.predict(data.train[0], verbose=0)
        np.testing.assert_allclose(predicted, wanted, rtol=1e-5)
        found.append(predicted)
    np.testing.assert_allclose(*found, rtol=1e-5)


class Shallow(FolderTransfer):
    """Transfers from a network of three layers, in place of MobileNetV2."""

    def base(self, net: Any, shape: tuple[int, int, int]) -> keras.Model:
        convolution = keras.layers.Conv2D(4, 3, activation="relu")
        parts = [convolution, keras.layers.BatchNormalization(), keras.layers.ReLU()]
        return keras.Sequential([keras.Input(shape), *parts])


def test_only_the_head_of_a_transferred_network_learns(tmp_path: Path) -> None:
    samples.write_shapes(tmp_path, each=3, side=32)
    network = SimpleNamespace(unfrozen=0, dropout=0.0)
    task = Shallow(
        model=network,
        loss=keras.losses.SparseCategoricalCrossentropy(),
        optimizer=keras.optimizers.SGD(0.5),
    )
    data = image_folder(tmp_path, size=(32, 32), batch_size=9, shuffle=False)
    before: dict[str, Any] = {}

    def weights() -> dict[str, np.ndarray]:
        return {v.path: v.numpy().astype("float64") for v in task.model.variables}

    trainer = make_trainer(max_steps=1, run_dir=tmp_path / "r")
    task.on_fit_start = lambda: before.update(weights())  # type: ignore[method-assign]
    trainer.fit(task, data)
    after = weights()
    assert len(before) == 8
    changed = [path for path in after if (after[path] != before[path]).any()]
    assert changed == ["head/kernel", "head/bias"]

    (base,) = (layer for layer in task.model.layers if isinstance(layer, keras.Model))
    labels = np.repeat([0, 1, 2], 3)
    paths = sorted(str(path) for path in tmp_path.rglob("*.jpg"))
    images = data.preprocessing(paths).astype("float32") * 2 - 1
    features = np.asarray(base(images, training=False), "float64").mean((1, 2))
    logits = features @ before["head/kernel"] + before["head/bias"]
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    gradient = features.T @ (probabilities - np.eye(3)[labels]) / 9
    wanted = before["head/kernel"] - 0.5 * gradient
    np.testing.assert_allclose(after["head/kernel"], wanted, atol=1e-6)

    # A loaded task takes the files themselves.
    again = Shallow(model=network, loss=task.loss)
    predicted = load(tmp_path / "r", task=again).predict(paths)
    alone = task.model(data.preprocessing(paths), training=False)
    np.testing.assert_allclose(predicted, alone, rtol=1e-5)


@pytest.mark.parametrize("name", ["table_imbalance", "text_embedding", "folder_transfer"])
def test_the_samples_are_where_the_tasks_look_for_them(name: str, run: Callable[..., str]) -> None:
    said = run(f"task={name}", code=2)
    assert f"there is no {'folder' if name[0] == 'f' else 'file'}" in said
    assert f"{os.sep}samples{os.sep}" in said
