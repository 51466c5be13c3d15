"""Pictures of whole runs: of the data that is evaluated, with its weights, and without a trace."""

from __future__ import annotations

import csv
import json
import logging
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from cli_project import Run, project, run
from helpers import Net, Rows, blobs, busy_data, differing, jitter, make_trainer, noisy

from framework import Data
from framework.callbacks import (
    EMA,
    Calibration,
    ConfusionMatrix,
    FirstBatch,
    RocPr,
    WorstMistakes,
)

__all__ = ["project", "run"]

SEVERAL = {"clean": blobs(37, seed=1), "noisy": blobs(50, seed=2)}


def all_of_them(every: str | None = None) -> list[Any]:
    judged = [ConfusionMatrix(every), RocPr(every), Calibration(every=every)]
    return [FirstBatch(), *judged, WorstMistakes(every=every)]


def table(run_dir: Path, stage: str) -> np.ndarray:
    """The counts of a confusion matrix, as they were written."""
    (path,) = (run_dir / "pictures").glob(f"{stage}-confusion_matrix-step-*.csv")
    rows = list(csv.reader(path.read_text().splitlines()))[1:]
    return np.array([row[1:] for row in rows], int)


def accuracy(counts: np.ndarray) -> float:
    return float(np.trace(counts) / counts.sum())


class Drawing(Net):
    """Predicts with noise from the generator that training's dropout uses."""

    def predict_step(self, batch: Any) -> Any:
        logits = super().predict_step(batch)
        generator = self.model.layers[2].seed_generator
        return logits + keras.random.normal(tf.shape(logits), seed=generator)


@pytest.mark.parametrize("engine", ["graph", "eager"])
def test_a_run_with_pictures_ends_with_the_same_bits(engine: str, tmp_path: Path) -> None:
    found = []
    for pictures in ([], all_of_them("3st")):
        rows = Rows()
        trainer = make_trainer(
            callbacks=[EMA(0.5), *pictures],
            loggers=[rows],
            run_dir=tmp_path / str(len(found)),
            engine=engine,
            max_epochs=2,
            log_every="2st",
        )
        trainer.fit(Drawing(noisy), busy_data(40))
        found.append((trainer, rows.rows))
    assert differing(found[0][0], found[1][0]) == []
    assert found[0][1] == found[1][1]
    assert list((tmp_path / "1" / "pictures").glob("val-calibration-step-000010.png"))


def test_a_stream_is_read_on_as_if_there_were_no_pictures(tmp_path: Path) -> None:
    x, y = blobs(40)
    ends = []
    for pictures in ([], all_of_them("2st")):
        train = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(40, seed=3).batch(8)
        val = tf.data.Dataset.from_tensor_slices(blobs(20, seed=1)).batch(8)
        trainer = make_trainer(callbacks=pictures, run_dir=tmp_path / str(len(ends)), max_epochs=2)
        trainer.fit(Net(), Data(train=train, val=val, augment=jitter))
        ends.append(trainer)
    assert differing(*ends) == []
    counts = table(tmp_path / "1", "val")
    assert counts.sum() == 20
    assert accuracy(counts) == pytest.approx(ends[1].metrics["val/accuracy"])


@pytest.mark.parametrize("options", [{}, {"devices": 2}, {"limit_val_batches": 2}])
def test_they_show_what_the_evaluation_has_measured(options: Any, tmp_path: Path) -> None:
    data = busy_data(40, val=SEVERAL, test=blobs(60, seed=3), eval_batch_size=16)
    callbacks = [EMA(0.9), ConfusionMatrix()]
    trainer = make_trainer(callbacks=callbacks, run_dir=tmp_path, max_epochs=1, **options)
    task = Net(optimizer=keras.optimizers.SGD(1.0))
    trainer.fit(task, data)
    for name, (x, _) in SEVERAL.items():
        counts = table(tmp_path, f"val-{name}")
        assert counts.sum() == (min(32, len(x)) if "limit_val_batches" in options else len(x))
        assert accuracy(counts) == pytest.approx(trainer.metrics[f"val/{name}/accuracy"], abs=1e-6)
    trainer.test(task, data)
    assert accuracy(table(tmp_path, "test")) == pytest.approx(trainer.metrics["test/accuracy"])
    predicted = trainer.predict(task, data).argmax(axis=1)  # the average's, too
    x, y = blobs(60, seed=3)
    assert (predicted != task.model(x).numpy().argmax(axis=1)).any()  # the weights' own
    wanted = np.zeros((3, 3), int)
    np.add.at(wanted, (y, predicted), 1)
    assert table(tmp_path, "test").tolist() == wanted.tolist()


class Counted(Net):
    """Counts the batches that it predicts; only in Python."""

    predicted = 0

    def predict_step(self, batch: Any) -> Any:
        self.predicted += 1
        return super().predict_step(batch)


def test_one_pass_serves_all_pictures_of_a_moment(tmp_path: Path) -> None:
    task, data = Counted(), busy_data(40, val=SEVERAL, eval_batch_size=16)
    options = {"engine": "eager", "run_dir": tmp_path, "max_epochs": 2}
    trainer = make_trainer(callbacks=all_of_them("5st"), **options)
    trainer.fit(task, data)
    batches = 3 + 4
    assert task.predicted == 2 * batches  # steps 5 and 10; the end is step 10
    trainer.validate(task, data)
    assert task.predicted == 3 * batches
    assert all(getattr(each, "_shared", None) is None for each in trainer.callbacks)


class Watched(Net):
    """Keeps the first batch that it trains on; only in Python."""

    first: Any = None

    def train_step(self, batch: Any) -> Any:
        if self.first is None:
            self.first = [np.asarray(each) for each in batch]
        return super().train_step(batch)


class Look(FirstBatch):
    def on_fit_start(self, run: Any) -> None:
        self.batch = run.first_batch()


def a_stream(shuffles: bool) -> Any:
    stream = tf.data.Dataset.from_tensor_slices(blobs(40))
    return (stream.shuffle(40, seed=1) if shuffles else stream).batch(8)


def by_epoch(epoch: int) -> Any:
    x, y = blobs(40)
    return ((x[i : i + 8] + epoch, y[i : i + 8]) for i in range(0, 40, 8))


@pytest.mark.parametrize(
    "train", [blobs(40), a_stream(False), by_epoch], ids=["arrays", "stream", "generator"]
)
@pytest.mark.parametrize("resident", [True, False])
def test_the_first_batch_is_the_one_that_is_trained_on(train: Any, resident: bool) -> None:
    look, task = Look(), Watched()
    trainer = make_trainer(callbacks=[look], engine="eager", max_steps=1)
    double = lambda batch: (2 * batch[0], batch[1])  # noqa: E731
    data = Data(train=train, batch_size=8, map=double, augment=jitter, resident=resident)
    trainer.fit(task, data)
    assert [each.tolist() for each in look.batch] == [each.tolist() for each in task.first]


def test_a_stream_that_would_change_is_not_looked_at(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = make_trainer(callbacks=[FirstBatch()], run_dir=tmp_path, max_steps=1)
    with caplog.at_level(logging.WARNING, "framework"):
        trainer.fit(Net(), Data(train=a_stream(True)))
    (line,) = [each.getMessage() for each in caplog.records if "first_batch" in each.getMessage()]
    assert "reading the first batch of this stream twice would change the run" in line


class Regression(Net):
    def eval_step(self, batch: Any) -> None:
        self.log("loss", tf.reduce_mean(self.model(batch[0])))


def test_what_is_no_classification_is_said_once_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    x, y = blobs(40)
    val = x, y + 0.5
    callbacks = [ConfusionMatrix("2st"), Calibration(every="2st")]
    callbacks += [WorstMistakes(every="2st", labels=lambda batch: batch[1] - 0.5)]
    trainer = make_trainer(callbacks=callbacks, run_dir=tmp_path, max_epochs=1)
    with caplog.at_level(logging.WARNING, "framework"):
        trainer.fit(Regression(), Data(train=(x, y), val=val, batch_size=8))
    lines = [each.getMessage() for each in caplog.records if each.getMessage()[:3] == "no "]
    assert lines == [
        "no confusion_matrix, calibration: this does not look like classification: the labels go "
        "from 0.5 to 2.5, for 3 classes. Give labels=, the key of an entry or a function that "
        "returns it.",
        "no worst_mistakes: there are no images in (float32 [40, 6], float64 [40]). Give images=, "
        "the key of an entry or a function that returns them.",
    ]
    assert trainer.status == "completed"
    assert not (tmp_path / "pictures").exists()


def test_names_of_classes_reach_pictures_and_not_the_result(tmp_path: Path) -> None:
    data = busy_data(40, class_names=["cat", "dog", "owl"])
    trainer = make_trainer(callbacks=[ConfusionMatrix()], run_dir=tmp_path, max_steps=2)
    trainer.fit(Net(), data)
    (path,) = (tmp_path / "pictures").glob("*.csv")
    assert path.read_text().startswith("true \\ predicted,cat,dog,owl\ncat,")
    assert "owl" not in json.dumps(trainer.result())
    # A complete run draws nothing again.
    path.unlink()
    make_trainer(callbacks=[ConfusionMatrix()], run_dir=tmp_path, max_steps=2).fit(Net(), data)
    assert not list((tmp_path / "pictures").glob("*.csv"))


def test_without_matplotlib_nothing_starts(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, err = run("task=mine", "run_dir=a", "callbacks=[confusion_matrix]")
    assert code == 2
    assert "confusion_matrix needs matplotlib, which is not installed" in err
    assert 'pip install "keras-task-framework[plots]"' in err
    assert not Path("a").exists()
