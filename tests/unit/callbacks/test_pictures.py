"""The numbers behind the pictures are those of other computations, and their files are whole."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from framework import UserError
from framework.callbacks import Calibration, ConfusionMatrix, FirstBatch, RocPr, WorstMistakes
from framework.callbacks.pictures.calibration import reliability
from framework.callbacks.pictures.confusion_matrix import confused_pairs, confusion_counts
from framework.callbacks.pictures.image_grid import PixelRange, images_of
from framework.callbacks.pictures.judged import Judged
from framework.callbacks.pictures.roc_pr import curves_of
from framework.callbacks.pictures.style import short
from framework.core.figure_pixels import figure_pixels
from framework.core.progress import Progress


class View:
    """A run that has nowhere to go but its directory."""

    def __init__(self, run_dir: Path, step: int = 7) -> None:
        self.run_dir, self.progress, self.is_chief = run_dir, Progress(step=step), True
        self.figures: dict[str, Any] = {}
        self.artifacts: list[Path] = []
        self.class_names = ("cat", "dog", "owl")
        self.batch: Any = None

    def log_figure(self, name: str, figure: Any) -> None:
        self.figures[name] = figure

    def log_artifact(self, path: Path) -> None:
        self.artifacts.append(path)

    def first_batch(self) -> Any:
        return self.batch


def texts(figure: Any) -> str:
    """Everything that is written in a figure."""
    from matplotlib.text import Text

    return "\n".join(each.get_text() for each in figure.findobj(Text))


def drawn(rows: int = 200, classes: int = 4, seed: int = 0) -> Judged:
    random = np.random.default_rng(seed)
    labels = random.integers(0, classes, rows)
    scores = random.normal(size=(rows, classes)) + 2 * np.eye(classes)[labels]
    powers = np.exp(scores)
    probabilities = (powers / powers.sum(axis=1, keepdims=True)).round(2)  # so that scores tie
    names = [f"class {number}" for number in range(classes)]
    return Judged(labels, probabilities.astype(np.float32), names)


def test_confusion_counts_are_counted_one_by_one() -> None:
    judged = drawn()
    wanted = np.zeros((4, 4), int)
    for label, row in zip(judged.labels, judged.probabilities, strict=True):
        wanted[label, list(row).index(max(row))] += 1
    counts = confusion_counts(judged.labels, judged.predicted, 4)
    assert counts.tolist() == wanted.tolist()
    assert judged.accuracy == np.trace(wanted) / wanted.sum()
    pairs = [(i, j, wanted[i, j]) for i in range(4) for j in range(4) if i != j and wanted[i, j]]
    assert sorted(confused_pairs(counts, 99)) == sorted(pairs)
    assert confused_pairs(counts, 2)[0][2] == max(count for _, _, count in pairs)


def test_the_area_is_the_share_of_pairs_in_the_right_order() -> None:
    judged = drawn()
    for number in range(4):
        positive, scores = judged.labels == number, judged.probabilities[:, number]
        pairs = [
            (yes > no) + 0.5 * (yes == no) for yes in scores[positive] for no in scores[~positive]
        ]
        curves = curves_of(positive, scores)
        assert curves is not None
        assert curves.area == pytest.approx(np.mean(pairs), rel=1e-12)
        average, recall = 0.0, 0.0
        for threshold in sorted(set(scores.tolist()), reverse=True):
            above = scores >= threshold
            now = (positive & above).sum() / positive.sum()
            average += (now - recall) * (positive & above).sum() / above.sum()
            recall = now
        assert curves.average_precision == pytest.approx(average, rel=1e-12)
    assert curves_of(np.array([True, True]), np.array([0.1, 0.2])) is None


def test_the_calibration_error_is_its_definition() -> None:
    judged = drawn()
    confidence, right = judged.probabilities.max(axis=1), judged.predicted == judged.labels
    error = 0.0
    for lower in range(10):
        inside = (confidence > lower / 10) & (confidence <= (lower + 1) / 10)
        if inside.any():
            gap = abs(right[inside].mean() - confidence[inside].astype(float).mean())
            error += inside.mean() * gap
    found = reliability(right, confidence, bins=10)
    assert found.error == pytest.approx(error, rel=1e-9)
    assert found.counts.sum() == 200
    assert reliability(np.array([True]), np.array([1.0], np.float32)).error == 0


def test_the_worst_mistakes_are_those_of_a_full_sort(tmp_path: Path) -> None:
    judged, view = drawn(), View(tmp_path)
    images = np.arange(200, dtype=np.float32).reshape(200, 1, 1, 1) * np.ones((1, 8, 8, 1))
    worst = WorstMistakes(count=5)
    worst.begin_pass()
    for start in range(0, 200, 48):  # batch by batch
        part = slice(start, start + 48)
        labels, probabilities = judged.labels[part], judged.probabilities[part]
        worst.notice("val", (images[part].astype("float32"), labels), labels, probabilities)
    worst.draw(view, "val", judged)
    confidence = judged.probabilities.max(axis=1)
    rows = [r for r in range(200) if judged.predicted[r] != judged.labels[r]]
    rows = sorted(rows, key=lambda r: (-confidence[r], r))[:5]
    figure = view.figures["val/worst_mistakes"]
    shown = [axes.images[0].get_array() for axes in figure.axes]
    assert [round(float(image[0, 0]) * 255) for image in shown] == rows
    said = [[each.get_text() for each in axes.texts] for axes in figure.axes]
    assert said == [
        [
            f"true: class {judged.labels[r]}",
            f"said: class {judged.predicted[r]}",
            f"{confidence[r]:.1%} sure",
        ]
        for r in rows
    ]


@pytest.mark.parametrize(
    ("change", "dtype"),
    [
        (lambda x: x * 255, "uint8"),
        (lambda x: x * 255, "float32"),
        (lambda x: x, "float32"),
        (lambda x: 2 * x - 1, "float32"),
        (lambda x: (x - [0.5, 0.4, 0.3]) / [0.2, 0.25, 0.3], "float32"),
    ],
    ids=["uint8", "0..255", "0..1", "-1..1", "standardized"],
)
def test_pixels_have_their_own_colours(change: Any, dtype: str) -> None:
    true = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3)) / 255
    true[0, 0, 0], true[0, 0, 1] = 0, 1  # every channel has black and white
    given = np.asarray(change(true).round(0) if dtype == "uint8" else change(true), dtype)
    seen = PixelRange()
    seen.add(given[:3])
    seen.add(given[3:])
    np.testing.assert_allclose(seen.shown(given[2]), true[2], atol=1e-6)


def test_images_are_found_in_a_batch() -> None:
    x, y = np.zeros((2, 9, 8, 3)), np.zeros(2)
    for batch, wanted in (
        ((x, y), (2, 9, 8, 3)),
        ({"label": y, "image": x}, (2, 9, 8, 3)),
        ((np.zeros((2, 9, 8)), y), (2, 9, 8, 1)),
        ((np.zeros((2, 3, 9, 8)), y), (2, 9, 8, 3)),
    ):
        assert images_of(batch).shape == wanted
    assert images_of({"a": x, "b": x[:, :5]}, "b").shape == (2, 5, 8, 3)
    with pytest.raises(UserError, match=r"no images in \(float64 \[2, 30\], float64 \[2\]\)"):
        images_of((np.zeros((2, 30)), y))


def test_a_shortened_name_keeps_its_end() -> None:
    assert short("lawn mower") == "lawn mower"
    assert len(short("a name that is too long 17", 12)) <= 12
    assert short("a name that is too long 17", 12).endswith("17")


def test_each_picture_is_one_file_of_the_latest_step(tmp_path: Path) -> None:
    judged = drawn(classes=3)
    for step in (7, 123):
        view = View(tmp_path, step)
        for callback in (ConfusionMatrix(), RocPr(), Calibration()):
            for stage in ("val", "val/ clean"):
                callback.draw(view, stage, judged)
    folder = tmp_path / "pictures"
    names = ("confusion_matrix", "roc_pr", "calibration")
    wanted = {f"{s}-{n}-step-000123.png" for n in names for s in ("val", "val-_clean")}
    wanted |= {f"{s}-confusion_matrix-step-000123.csv" for s in ("val", "val-_clean")}
    assert {path.name for path in folder.iterdir()} == wanted
    assert {path.name for path in view.artifacts} == {n for n in wanted if n.endswith("csv")}
    table = list(csv.reader(io.StringIO(view.artifacts[0].read_text())))
    counts = confusion_counts(judged.labels, judged.predicted, 3).astype(str)
    head = ["true \\ predicted", "class 0", "class 1", "class 2"]
    assert table == [head, *([f"class {i}", *counts[i]] for i in range(3))]
    import tensorflow as tf

    png = tf.io.decode_png((folder / "val-confusion_matrix-step-000123.png").read_bytes()).numpy()
    assert (png == figure_pixels(view.figures["val/confusion_matrix"])[..., :3]).all()


@pytest.mark.parametrize("classes", [2, 10, 100, 150])
def test_nothing_of_a_confusion_matrix_is_cut(classes: int, tmp_path: Path) -> None:
    judged, view = drawn(2000, classes), View(tmp_path)
    names = [f"a rather long name of class {number}" for number in range(classes)]
    ConfusionMatrix().draw(view, "val", Judged(judged.labels, judged.probabilities, names))
    figure = view.figures["val/confusion_matrix"]
    pixels = figure_pixels(figure)[..., :3]
    for edge in (pixels[:3], pixels[-3:], pixels[:, :3], pixels[:, -3:]):
        assert (edge == 255).all()
    assert ("Most frequent mistakes" in texts(figure)) == (classes > 20)
    counts = confusion_counts(judged.labels, judged.predicted, classes)
    inside = [each.get_text() for each in figure.axes[0].texts]
    assert inside == ([str(n) for n in counts.ravel() if n] if classes <= 20 else [])


def test_curves_of_many_classes_are_those_of_the_weakest(tmp_path: Path) -> None:
    judged, view = drawn(3000, 15), View(tmp_path)
    RocPr().draw(view, "val", judged)
    areas = {}
    for number in range(15):
        curves = curves_of(judged.labels == number, judged.probabilities[:, number])
        assert curves is not None
        areas[f"class {number}"] = curves.area
    (legend,) = view.figures["val/roc_pr"].legends
    shown = [each.get_text().split("  ") for each in legend.get_texts()]
    weakest = sorted(areas, key=areas.__getitem__)[:12]
    assert [(n, a) for n, a, _ in shown] == [(n, f"AUC {areas[n]:.3f}") for n in weakest]


def test_the_first_batch_has_the_names_of_its_classes(tmp_path: Path) -> None:
    view = View(tmp_path, step=0)
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 3)).astype("float32")
    for labels, wanted in (
        (np.array([2, 0, 1, 1, 0]), ["owl", "cat", "dog"]),
        (np.eye(3)[[2, 0, 1, 1, 0]], ["owl", "cat", "dog"]),
        (np.array([7, 0, 1, 1, 0]), ["7", "0", "1"]),
        (np.array([0.5, 0, 1, 1, 0]), ["0.5", "0", "1"]),
    ):
        view.batch = images, labels
        FirstBatch(count=3).on_fit_start(view)
        figure = view.figures["train/first_batch"]
        assert [axes.texts[0].get_text() for axes in figure.axes] == wanted
    view.batch = {"image": images}
    FirstBatch().on_fit_start(view)
    assert len(view.figures["train/first_batch"].axes) == 5


@pytest.mark.parametrize(
    ("make", "where"),
    [
        (lambda: FirstBatch(count=0), "callbacks.first_batch.count"),
        (lambda: WorstMistakes(count=True), "callbacks.worst_mistakes.count"),
        (lambda: Calibration(bins=1.5), "callbacks.calibration.bins"),
    ],
)
def test_counts_are_whole_numbers(make: Any, where: str) -> None:
    with pytest.raises(UserError, match="1 or more") as error:
        make()
    assert error.value.where == where


def test_pictures_read_the_same_predictions_only_if_they_are_told_the_same() -> None:
    callbacks = [ConfusionMatrix(), RocPr(labels="a"), Calibration(), WorstMistakes(labels="a")]
    run: Any = SimpleNamespace(callbacks=callbacks)
    assert callbacks[0]._peers(run) == [callbacks[0], callbacks[2]]
    assert callbacks[3]._peers(run) == [callbacks[1], callbacks[3]]
