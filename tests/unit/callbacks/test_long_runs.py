"""What stays of a run's lines: the best marked, few of many, and the time left of the whole."""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator

import pytest
from fake_run import Clock, FakeTrainer
from rich.console import Console

from framework.callbacks.checkpoint import Checkpoint
from framework.callbacks.live_line import Display, Line, erase
from framework.callbacks.pace import Pace
from framework.callbacks.progress_bar import ProgressBar
from framework.callbacks.thinning import Thinning
from framework.config import TrainerConfig
from framework.run.default_callbacks import with_defaults

ON_A_TERMINAL = {"force_terminal": True, "color_system": "standard", "no_color": False}


def run_of(epochs: int, seconds: float, **console: object) -> list[str]:
    """The lines of a run whose epochs take so long; the third is the best."""
    clock, out = Clock(), io.StringIO()
    bar = ProgressBar(Console(file=out, width=200, **console), live=False, clock=clock)
    trainer = FakeTrainer(steps_per_epoch=10, max_epochs=epochs)
    bar.on_fit_start(trainer)
    for epoch in range(1, epochs + 1):
        bar.on_epoch_start(trainer)
        trainer.train(bar, 10, clock, seconds, loss=1.0)
        bar.on_wake(trainer)
        if epoch in (1, 3):
            trainer.best = {"step": 10 * epoch, "metric": "val/loss", "value": 0.5}
        trainer.end_epoch(bar)
    bar.on_fit_end(trainer)
    return out.getvalue().splitlines()


def shown(lines: list[str]) -> list[int]:
    return [int(match[1]) for line in lines if (match := re.match(r"epoch (\d+)/", line))]


@pytest.mark.parametrize(
    ("epochs", "expected"),
    [
        (5, [1, 2, 3, 4, 5]),
        (50, list(range(1, 51))),
        (51, [*range(2, 51, 2), 51]),
        (120, [*range(5, 121, 5)]),
        (10_000, [*range(200, 10_001, 200)]),
        (10_001, [*range(500, 10_001, 500), 10_001]),
    ],
)
def test_of_many_epochs_about_50_keep_their_line(epochs: int, expected: list[int]) -> None:
    assert shown(run_of(epochs, 0.001)) == expected


def test_a_line_is_kept_at_least_every_ten_seconds() -> None:
    # Of 1,000 epochs every 20th keeps its line; but 3 of them already take 12 s.
    epochs = shown(run_of(1000, 4.0))
    gaps = [after - before for before, after in itertools.pairwise(epochs)]
    assert max(gaps) == 3
    assert epochs[-1] == 1000
    assert set(range(20, 1001, 20)) <= set(epochs)


def test_the_best_is_marked_by_a_word_and_on_a_terminal_by_a_colour_too() -> None:
    marked = [line.endswith("  best") for line in run_of(4, 1.0)]
    assert marked == [True, False, True, False]
    lines = run_of(4, 1.0, **ON_A_TERMINAL)
    assert [line.endswith("  \x1b[1;32mbest\x1b[0m") for line in lines] == marked
    plain = run_of(4, 1.0, **{**ON_A_TERMINAL, "no_color": True})
    assert not any("32m" in line for line in plain)
    assert [re.sub(r"\x1b\[\d*m", "", line).endswith("best") for line in plain] == marked


def test_the_bar_comes_after_the_checkpoint_that_it_reports() -> None:
    config = TrainerConfig(max_epochs=1)
    for given in ([], [ProgressBar(live=False)], [Checkpoint(), ProgressBar()], [Checkpoint()]):
        kinds = [type(callback) for callback in with_defaults(given, config)]
        assert kinds[-2:] == [Checkpoint, ProgressBar]
        assert len(set(kinds)) == len(kinds)


@pytest.fixture
def live() -> Iterator[tuple[ProgressBar, FakeTrainer, Clock, list[str]]]:
    """A bar in the second of four epochs of 100 steps, 50 steps a second; what it draws."""
    clock, drawn = Clock(), []
    bar = ProgressBar(Console(file=io.StringIO(), force_terminal=True), live=True, clock=clock)

    def draw(line: object, urgent: bool) -> None:
        drawn.append(line().plain())  # type: ignore[operator]

    bar._display.draw = draw  # type: ignore[method-assign]
    trainer = FakeTrainer(max_epochs=4)
    trainer.total_steps = 400
    bar.on_fit_start(trainer)
    for steps in (100, 50):
        bar.on_epoch_start(trainer)
        trainer.train(bar, steps, clock, steps / 50, loss=2.0, accuracy=0.25)
    bar.on_wake(trainer)
    yield bar, trainer, clock, drawn
    erase()


def test_the_live_line_has_the_best_value_and_both_times_left(live) -> None:
    bar, trainer, _, drawn = live
    trainer.best = {"step": 100, "metric": "val/accuracy", "value": 0.3}
    bar.on_wake(trainer)
    # 50 steps are left of the epoch and 250 of the run.
    assert drawn[-1] == (
        "epoch 2/4   50/100 50 it/s 0:01 left"
        "  loss 2.0000  best val accuracy 0.3000  accuracy 0.2500  run 0:05 left"
    )


def test_an_evaluation_shows_how_far_it_is(live) -> None:
    bar, trainer, clock, drawn = live
    bar.on_validation_start(trainer)
    clock.now += 3.0
    bar.on_evaluation_progress(trainer, 30, 100)
    assert drawn[-1] == "epoch 2/4  validating 30/100 0:07 left"
    trainer.stage = "test"
    bar.on_test_start(trainer)
    bar.on_evaluation_progress(trainer, 30, None)
    assert drawn[-1] == "testing 30 batches"


def test_a_pace_counts_pauses_only_for_the_whole() -> None:
    pace = Pace()
    pace.begin(0.0, 1000)
    assert pace.per_second() is None
    assert pace.seconds_for(10) is None
    pace.add(0.0, 1000)
    pace.add(2.0, 1100)
    pace.clear()  # a pause of 6 s
    pace.add(8.0, 1100)
    pace.add(10.0, 1200)
    assert pace.per_second() == 50.0
    assert pace.seconds_for(400) == 20.0


def test_a_run_of_unknown_length_is_thinned_as_it_grows() -> None:
    thinning = Thinning()
    kept = [n for n in range(1, 1001) if thinning.keeps(n)]
    assert kept[:51] == [*range(1, 51), 52]
    assert len(kept) < 160
    assert kept[-2:] == [980, 1000]


def test_a_narrow_line_drops_whole_words() -> None:
    line = Line("epoch 7184/10000", 0.7, "  71830/100000 168 it/s 2:48 left", ["loss 1.0000"])
    texts = {width: line.fit(width).plain for width in (34, 40, 44, 55)}
    assert texts == {
        34: "epoch 7184/10000    71830/100000",
        40: "epoch 7184/10000    71830/100000",
        44: "epoch 7184/10000    71830/100000 168 it/s",
        55: "epoch 7184/10000    71830/100000 168 it/s 2:48 left",
    }


def test_a_screen_has_one_line_that_is_redrawn() -> None:
    first, second = io.StringIO(), io.StringIO()
    displays = [
        Display(Console(file=f, force_terminal=True), True, Clock()) for f in (first, second)
    ]
    for display in displays:
        display.draw(lambda: Line("a"), urgent=True)
    assert Display.shown is displays[1]
    assert "\x1b[?25h" in first.getvalue()  # the cursor is given back
    assert "\x1b[?25h" not in second.getvalue()
    erase()
    assert "\x1b[?25h" in second.getvalue()
    assert Display.shown is None
