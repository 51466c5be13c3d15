"""The progress bar: plain lines in a pipe, one live line on a terminal."""

from __future__ import annotations

import io
import logging
import math
import re
import sys

import pytest
from fake_run import Clock, FakeTrainer
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from framework.callbacks.live_line import Line
from framework.callbacks.progress_bar import ProgressBar
from framework.core.progress import Progress
from framework.errors import UserError


@pytest.fixture
def plain():
    """A progress bar that writes into a pipe, its clock, and what it wrote."""
    clock, out = Clock(), io.StringIO()
    return ProgressBar(Console(file=out, width=80), clock=clock), clock, out


@pytest.fixture
def terminal():
    """A progress bar on a terminal of 100 columns, its clock, and what it drew."""
    clock, out = Clock(), io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, color_system="standard")
    bar = ProgressBar(console, live=True, clock=clock)
    yield bar, clock, out
    bar.on_exception(FakeTrainer(), KeyboardInterrupt())


# --- Progress: plain lines ------------------------------------------------------------------


def test_a_pipe_gets_one_line_for_each_epoch(plain):
    bar, clock, out = plain
    trainer = FakeTrainer()
    bar.on_fit_start(trainer)
    for loss in (2.99502, 1.5):
        bar.on_epoch_start(trainer)
        for _ in range(10):
            trainer.train(bar, 10, clock, 0.4, loss=7.0, accuracy=0.2689)
            bar.on_wake(trainer)
        trainer.metrics["train/loss_epoch"] = loss
        trainer.validate(bar, clock, 1.0, loss=2.5, accuracy=0.3)
        bar.on_wake(trainer)
        trainer.end_epoch(bar)
    bar.on_fit_end(trainer)
    # 3,200 examples in 4 seconds of training; the validation's second counts as time only.
    assert out.getvalue().splitlines() == [
        "epoch 1/2  loss 2.9950  accuracy 0.2689  val loss 2.5000  val accuracy 0.3000  5.0 s"
        "  800 examples/s",
        "epoch 2/2  loss 1.5000  accuracy 0.2689  val loss 2.5000  val accuracy 0.3000  5.0 s"
        "  800 examples/s",
    ]


def test_a_long_epoch_gets_a_line_every_ten_seconds(plain):
    bar, clock, out = plain
    trainer = FakeTrainer(steps_per_epoch=1000)
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    for _ in range(70):
        trainer.train(bar, 10, clock, 0.5, loss=2.0)
        bar.on_wake(trainer)
    assert out.getvalue().splitlines() == [
        "epoch 1/2   200/1000 20 it/s 0:40 left  loss 2.0000",
        "epoch 1/2   400/1000 20 it/s 0:30 left  loss 2.0000",
        "epoch 1/2   600/1000 20 it/s 0:20 left  loss 2.0000",
    ]


@pytest.mark.parametrize("steps_per_epoch", [100, None])
def test_a_validation_in_mid_epoch_gets_a_line_and_one_at_the_end_none(plain, steps_per_epoch):
    bar, clock, out = plain
    trainer = FakeTrainer(steps_per_epoch)
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    for loss in (2.0, 1.0):
        trainer.train(bar, 50, clock, 1.0, loss=loss)
        trainer.validate(bar, clock, 1.0, loss=loss / 2)
        bar.on_wake(trainer)
    trainer.end_epoch(bar)
    assert out.getvalue().splitlines() == [
        "epoch 1/2  step 50  val loss 1.0000",
        "epoch 1/2  loss 1.0000  val loss 0.5000  4.0 s  1,600 examples/s",
    ]


def test_a_sanity_check_before_training_leaves_no_line(plain):
    bar, clock, out = plain
    trainer = FakeTrainer()
    bar.on_fit_start(trainer)
    trainer.validate(bar, clock, 1.0, loss=9.0)
    bar.on_epoch_start(trainer)
    trainer.train(bar, 100, clock, 1.0, loss=2.0)
    trainer.end_epoch(bar)
    assert "val" not in out.getvalue()


def test_a_run_that_ends_in_mid_epoch_says_where(plain):
    bar, clock, out = plain
    trainer = FakeTrainer(max_epochs=None, max_steps=30)
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    trainer.train(bar, 30, clock, 2.0, loss=2.0)
    bar.on_wake(trainer)
    bar.on_fit_end(trainer)
    assert out.getvalue() == "epoch 1  step 30/30   30/100 15 it/s 0:05 left  loss 2.0000\n"


def test_an_epoch_of_unknown_length_is_counted(plain):
    bar, clock, out = plain
    trainer = FakeTrainer(steps_per_epoch=None, max_epochs=None, max_time="1h")
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    trainer.train(bar, 24, clock, 12.0, loss=1e-5)
    bar.on_wake(trainer)
    assert out.getvalue() == "epoch 1  24 steps 2.00 it/s  loss 1e-05\n"


def test_an_epoch_that_the_run_leaves_unfinished_says_so(plain):
    bar, clock, out = plain
    trainer = FakeTrainer()
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    trainer.train(bar, 25, clock, 2.0, loss=2.0)
    trainer.end_epoch(bar)
    bar.on_fit_end(trainer)
    line = "epoch 1/2  ended after 25 steps  loss 2.0000  2.0 s  400 examples/s\n"
    assert out.getvalue() == line


def test_a_run_that_fails_before_it_begins_says_nothing(plain):
    bar, _, out = plain
    trainer = FakeTrainer()
    trainer.progress = Progress(epoch=1, step=100)
    bar.on_exception(trainer, UserError("no", fix="yes"))
    bar.on_fit_end(trainer)
    assert out.getvalue() == ""


def test_a_bar_is_full_at_the_end_of_an_epoch(plain):
    bar, clock, out = plain
    trainer = FakeTrainer()
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    trainer.train(bar, 100, clock, 20.0, loss=2.0)
    bar.on_wake(trainer)
    assert out.getvalue() == "epoch 1/2  100/100 5.00 it/s 0:00 left  loss 2.0000\n"


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_an_evaluation_on_its_own_prints_its_metrics(plain, stage):
    bar, clock, out = plain
    trainer = FakeTrainer()
    trainer.stage = stage
    if stage == "test":
        bar.on_test_start(trainer)
        clock.now += 2.5
        bar.on_test_end(trainer, {"test/loss": 2.6143, "test/accuracy": math.nan})
        assert out.getvalue() == "test loss 2.6143  test accuracy nan  2.5 s\n"
    else:
        trainer.validate(bar, clock, 75.0, **{"clean/loss": 0.5})
        assert out.getvalue() == "val clean/loss 0.5000  1:15\n"


def test_a_pipe_that_is_gone_does_not_end_the_run():
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(32, "Broken pipe")

    bar, clock, trainer = ProgressBar(Console(file=Gone())), Clock(), FakeTrainer()
    bar.on_fit_start(trainer)
    for _ in range(2):
        bar.on_epoch_start(trainer)
        trainer.train(bar, 100, clock, 1.0, loss=2.0)
        trainer.end_epoch(bar)
    bar.on_fit_end(trainer)


# --- Progress: the live line ----------------------------------------------------------------


def test_it_redraws_at_most_ten_times_a_second(terminal, monkeypatch):
    bar, clock, _ = terminal
    drawn = []
    trainer = FakeTrainer(steps_per_epoch=100_000)
    original = Line.fit

    def fit(self, *args, **kwargs):
        drawn.append(clock.now)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Line, "fit", fit)
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    # Five seconds in which everything happens every 10 ms.
    for _ in range(500):
        trainer.train(bar, 10, clock, 0.004, loss=2.0)
        trainer.validate(bar, clock, 0.006, loss=2.0)
        bar.on_wake(trainer)
    in_a_second = [sum(at <= other < at + 1.0 for other in drawn) for at in drawn]
    assert max(in_a_second) <= 10
    assert len(drawn) >= 40


def test_the_cursor_and_the_streams_are_given_back(terminal):
    bar, clock, out = terminal
    stdout, stderr = sys.stdout, sys.stderr
    trainer = FakeTrainer()
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    trainer.train(bar, 10, clock, 1.0, loss=2.0)
    bar.on_wake(trainer)
    assert out.getvalue().count("\x1b[?25l") == 1
    bar.on_exception(trainer, KeyboardInterrupt())
    bar.on_fit_end(trainer)
    assert out.getvalue().count("\x1b[?25h") == 1
    assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")
    assert (sys.stdout, sys.stderr) == (stdout, stderr)


def test_log_handlers_made_before_the_bar_write_above_it(terminal):
    bar, _, out = terminal
    real = sys.stdout
    handler = logging.StreamHandler(real)
    log = logging.getLogger("framework")
    log.addHandler(handler)
    try:
        trainer = FakeTrainer()
        bar.on_fit_start(trainer)
        bar.on_epoch_start(trainer)
        log.warning("the stand-in")
        print("a print")
        bar.on_fit_end(trainer)
        assert handler.stream is real
    finally:
        log.removeHandler(handler)
    text = out.getvalue()
    assert "the stand-in\n" in text
    assert "a print\n" in text


def test_a_validation_shows_while_it_runs(terminal):
    bar, clock, out = terminal
    trainer = FakeTrainer()
    bar.on_fit_start(trainer)
    bar.on_epoch_start(trainer)
    trainer.train(bar, 100, clock, 1.0, loss=2.0)
    trainer.validate(bar, clock, 1.0, loss=2.0)
    bar.on_fit_end(trainer)
    assert "epoch 1/2  validating" in out.getvalue()
    assert "val loss 2.0000" in out.getvalue()


METRICS = st.lists(st.text(st.characters(codec="ascii", categories=["L"]), min_size=1), max_size=8)


@settings(deadline=None)
@given(width=st.integers(1, 200), metrics=METRICS, part=st.none() | st.floats(0, 1))
def test_the_line_never_outgrows_its_width(width, metrics, part):
    line = Line("epoch 1/5", part, " 812/1563 412 it/s 0:02 left", metrics)
    text = line.fit(width, "#", "-").plain
    assert len(text) <= width
    bar = re.search(r"[#-]{6,}", text)
    assert bool(bar) == (part is not None and width >= 60)
    if bar:
        assert len(bar[0]) <= 40
        assert abs(bar[0].count("#") - part * len(bar[0])) <= 1
        assert "1563 412 it/s 0:02 left" in text


def test_the_lessons_line_fits_80_columns():
    line = Line(
        "epoch 2/5", 0.5, " 782/1563 412 it/s 0:02 left", ["loss 2.9950", "accuracy 0.2689"]
    )
    text = line.fit(77, "#", "-").plain
    assert text == ("epoch 2/5  ###---   782/1563 412 it/s 0:02 left  loss 2.9950  accuracy 0.2689")
