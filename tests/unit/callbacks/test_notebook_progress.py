"""What a notebook's cell shows of a run, with a fake view and a clock that the test turns."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest
from fake_run import Clock, FakeTrainer

from framework.callbacks.curves import Curves
from framework.callbacks.notebook import NotebookProgress, in_notebook
from framework.callbacks.progress_bar import ProgressBar
from framework.config import TrainerConfig
from framework.run.default_callbacks import with_defaults


class Notebook:
    """Outputs of a cell, each as its states in order: HTML and text."""

    def __init__(self) -> None:
        self.outputs: list[list[tuple[str, str]]] = []

    def open(self):
        states: list[tuple[str, str]] = []
        self.outputs.append(states)
        return lambda html, text: states.append((html, text))


class Cells(HTMLParser):
    """The words of a table, by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self._open = False
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._open = True

    def handle_endtag(self, tag):
        self._open = self._open and tag not in ("td", "th")

    def handle_data(self, data):
        if self._open:
            self.rows[-1][-1] += data


def started(steps_per_epoch: int = 100, **options):
    clock, notebook = Clock(), Notebook()
    trainer = FakeTrainer(steps_per_epoch, **options)
    trainer.status, trainer.run_dir, trainer.already_complete = "running", None, False
    bar = NotebookProgress(plot=False, output=notebook.open, clock=clock)
    bar.on_setup(trainer)
    bar.on_fit_start(trainer)
    return clock, notebook, trainer, bar


def epoch(clock, trainer, bar, seconds=2.0, **values):
    bar.on_epoch_start(trainer)
    trainer.train(bar, 100, clock, seconds, loss=values["loss"])
    trainer.validate(bar, clock, 1.0, loss=values["val_loss"], accuracy=0.5)
    bar.on_wake(trainer)
    bar.on_epoch_end(trainer)


def test_the_table_has_training_and_validation_side_by_side_and_marks_the_best() -> None:
    clock, notebook, trainer, bar = started()
    epoch(clock, trainer, bar, loss=2.0, val_loss=1.5)
    epoch(clock, trainer, bar, loss=1.0, val_loss=1.75)
    trainer.status, trainer.stop_reason = "completed", "max_epochs=2 reached"
    bar.on_fit_end(trainer)
    (states,) = notebook.outputs
    html, text = states[-1]
    assert Cells(html).rows == [
        ["epoch", "loss", "accuracy", ""],
        ["train", "val", "val"],
        ["1/2", "2.0000", "1.5000", "0.5000", "3.0 s", "1,600 examples/s", "best"],
        ["2/2", "1.0000", "1.7500", "0.5000", "3.0 s", "1,600 examples/s", ""],
    ]
    assert text.splitlines()[-1] == "completed: max_epochs=2 reached"


def test_the_best_checkpoint_decides_where_there_is_one() -> None:
    clock, notebook, trainer, bar = started()
    trainer.best = {"step": 200, "metric": "val/accuracy", "value": 0.5}
    epoch(clock, trainer, bar, loss=2.0, val_loss=1.5)
    epoch(clock, trainer, bar, loss=1.0, val_loss=1.75)
    bar.on_fit_end(trainer)
    marks = [row[-1] for row in Cells(notebook.outputs[0][-1][0]).rows[2:]]
    assert marks == ["", "best"]


def test_it_redraws_at_most_4_times_a_second() -> None:
    clock, notebook, trainer, bar = started(steps_per_epoch=10_000)
    bar.on_epoch_start(trainer)
    before = len(notebook.outputs[0])
    for _ in range(1000):
        trainer.train(bar, 1, clock, 0.01, loss=1.0)
        bar.on_wake(trainer)
    assert 35 <= len(notebook.outputs[0]) - before <= 41  # 10 seconds
    shares = [re.search(r"width:([\d.]+)%", html) for html, _ in notebook.outputs[0]]
    done = [float(share[1]) for share in shares if share]
    assert done == sorted(done)
    assert done[-1] == pytest.approx(10.0, abs=0.3)


def test_names_are_text_and_never_html() -> None:
    clock, notebook, trainer, bar = started()
    bar.on_epoch_start(trainer)
    trainer.metrics["train/<script>"] = 1.0
    trainer.train(bar, 100, clock, 1.0, **{"<i>": 2.0})
    bar.on_epoch_end(trainer)
    bar.on_fit_end(trainer)
    for html, _ in notebook.outputs[0]:
        assert "<script" not in html
        assert "<i>" not in html
    words = Cells(notebook.outputs[0][-1][0]).rows[0]
    assert words == ["epoch", "<script>", "<i>", ""]


def test_a_long_run_has_a_short_table_with_the_best_and_the_last() -> None:
    clock, notebook, trainer, bar = started(max_epochs=1003)
    for number in range(1003):
        clock.now -= 2.99  # epochs of 10 ms
        epoch(clock, trainer, bar, loss=1.0, val_loss=0.1 if number == 504 else 0.5)
    bar.on_fit_end(trainer)
    shown = [row[0] for row in Cells(notebook.outputs[0][-1][0]).rows[2:]]
    assert len(shown) <= 53
    assert shown[-1] == "1003/1003"
    assert "505/1003" in shown


def test_an_interrupted_run_says_how_it_goes_on() -> None:
    clock, notebook, trainer, bar = started()
    epoch(clock, trainer, bar, loss=2.0, val_loss=1.5)
    trainer.status, trainer.stop_reason, trainer.run_dir = "interrupted", "SIGINT", "runs/a"
    bar.on_fit_end(trainer)
    html, text = notebook.outputs[0][-1]
    assert text.splitlines()[-1] == "interrupted: SIGINT. Fit again to continue."
    assert "flex" not in html


def test_what_is_printed_after_compiling_stays_above() -> None:
    from framework.callbacks.live_line import erase

    notebook, clock, trainer = Notebook(), Clock(), FakeTrainer()
    bar = NotebookProgress(plot=False, output=notebook.open, clock=clock)
    bar.on_setup(trainer)
    assert notebook.outputs[0][-1][1] == "compiling ..."
    erase()  # as the model's summary does
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    assert notebook.outputs[0][-1] == ("", "")
    assert len(notebook.outputs) == 2


def test_curves_have_at_most_500_points_and_the_loss_comes_first() -> None:
    pytest.importorskip("matplotlib")
    clock = Clock()
    curves = Curves(clock)
    for step in range(1, 20_001):
        values = {"train/accuracy": 0.5, "train/loss": 1 / step, "train/loss_epoch": 3.0}
        curves.add(step, {**values, "val/loss": float("nan")})
    assert curves.panels() == {
        "loss": ["train/loss", "val/loss"],
        "accuracy": ["train/accuracy"],
    }
    picture = curves.picture()
    assert picture is not None
    svg = base64.b64decode(picture.partition(",")[2]).decode()
    assert "<svg" in svg
    assert len(svg) < 100_000
    assert [word for word in ("loss", "accuracy", "train") if f">{word}</text>" in svg] == [
        "loss",
        "accuracy",
        "train",
    ]


def test_a_picture_is_drawn_every_two_seconds_and_at_the_end() -> None:
    pytest.importorskip("matplotlib")
    clock = Clock()
    curves = Curves(clock)
    for step in (1, 2):
        curves.add(step, {"train/loss": 1.0 / step})
    first = curves.picture()
    curves.add(3, {"train/loss": 5.0})
    clock.now += 1.9
    assert curves.picture() == first
    second = curves.picture(now=True)
    assert second != first
    curves.add(4, {"train/loss": 9.0})
    clock.now += 2.1
    assert curves.picture() not in (first, second)


def test_outside_a_kernel_a_run_has_a_progress_bar() -> None:
    assert not in_notebook()
    bars = [type(c) for c in with_defaults([], TrainerConfig()) if isinstance(c, ProgressBar)]
    assert bars == [ProgressBar]


def test_in_a_kernel_a_run_has_one_bar_and_a_given_one_replaces_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("framework.run.default_callbacks.in_notebook", lambda: True)

    def bars(*given: ProgressBar) -> list[type]:
        chosen = with_defaults(given, TrainerConfig())
        return [type(c) for c in chosen if isinstance(c, ProgressBar)]

    assert bars() == [NotebookProgress]
    assert bars(ProgressBar()) == [ProgressBar]
    assert bars(NotebookProgress(plot=False)) == [NotebookProgress]
