"""The built-in callbacks that speak to people, and early stopping."""

from __future__ import annotations

import io
import logging
import math
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from framework.callbacks.display import Line
from framework.callbacks.early_stopping import EarlyStopping
from framework.callbacks.model_summary import ModelSummary
from framework.callbacks.progress_bar import ProgressBar
from framework.config import TrainerConfig
from framework.core.progress import Progress
from framework.errors import UserError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class FakeTrainer:
    """What callbacks may look at, without a model or a step."""

    def __init__(self, steps_per_epoch: int | None = 100, model=None, **options) -> None:
        self.config = TrainerConfig(**{"max_epochs": 2, **options})
        self.task = SimpleNamespace(model=model)
        self.progress = Progress()
        self.steps_per_epoch = steps_per_epoch
        self.total_steps = self.config.max_steps
        self.metrics: dict[str, float] = {}
        self.metric_names: set[str] = set()
        self.stage = "fit"
        self.has_validation = True
        self.stop_reason = ""

    def stop(self, reason: str) -> None:
        self.stop_reason = reason

    def keras_metric(self, name: str) -> None:
        """No metric of Keras is logged."""

    def train(self, callback, steps: int, clock: Clock, seconds: float, **metrics: float) -> None:
        """Run one stretch, log what it measured, and wake the callback."""
        progress = self.progress
        progress.step += steps
        progress.batch += steps
        progress.examples += 32 * steps
        if progress.batch == self.steps_per_epoch:
            progress.epoch, progress.batch = progress.epoch + 1, 0
        clock.now += seconds
        if metrics:
            row = {f"train/{name}": value for name, value in metrics.items()}
            self.metrics.update(row)
            callback.on_log(self, row)

    def validate(self, callback, clock: Clock, seconds: float, **metrics: float) -> None:
        callback.on_validation_start(self)
        clock.now += seconds
        row = {f"val/{name}": value for name, value in metrics.items()}
        self.metrics.update(row)
        callback.on_validation_end(self, row)

    def end_epoch(self, callback) -> None:
        if self.steps_per_epoch is None:
            self.steps_per_epoch = self.progress.batch
            self.progress.epoch, self.progress.batch = self.progress.epoch + 1, 0
        callback.on_epoch_end(self)


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


def test_force_color_puts_no_control_characters_into_a_file(tmp_path):
    code = """
        import sys
        sys.path.insert(0, "tests")
        from test_callbacks_builtin import Clock, FakeTrainer
        from framework.callbacks.progress_bar import ProgressBar
        from framework.callbacks.early_stopping import EarlyStopping
        bar, trainer, clock = ProgressBar(), FakeTrainer(), Clock()
        bar.on_fit_start(trainer)
        bar.on_epoch_start(trainer)
        trainer.train(bar, 100, clock, 1.0, loss=2.0)
        bar.on_wake(trainer)
        trainer.validate(bar, clock, 1.0, loss=2.0)
        trainer.end_epoch(bar)
        bar.on_fit_end(trainer)
        assert "tensorflow" not in sys.modules
    """
    env = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color", "PYTHONIOENCODING": "ascii"}
    out = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=Path(__file__).parents[1],
        env={**env, "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert out.returncode == 0, out.stderr
    assert re.fullmatch(r"epoch 1/2  loss 2\.0000  val loss 2\.0000  [^\x00-\x1f]+\n", out.stdout)


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


# --- Model summary --------------------------------------------------------------------------


def summary(model, max_rows: int = 40, **options) -> list[str]:
    out = io.StringIO()
    callback = ModelSummary(max_rows, console=Console(file=out, width=60))
    callback.on_fit_start(FakeTrainer(model=model, **options))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def cells(lines: list[str]) -> list[list[str]]:
    return [re.split(r"\s{3,}", line) for line in lines]


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


def test_a_sequential_model(keras):
    layers = keras.layers
    model = keras.Sequential(
        [
            layers.Conv2D(16, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.Flatten(name="a_rather_long_name_for_a_layer_that_only_flattens"),
            layers.Dense(10, name="[b]dense"),
        ],
        name="net",
    )
    model.build((None, 8, 8, 3))
    lines = summary(model)
    assert lines[0] == "net: Sequential"
    assert cells(lines[2:6]) == [
        ["conv", "Conv2D", "(None, 6, 6, 16)", str(3 * 3 * 3 * 16 + 16)],
        ["norm", "BatchNormalization", "(None, 6, 6, 16)", str(4 * 16)],
        ["a_rather_long_name_for_a_layer_that_only_flattens", "Flatten", "(None, 576)", "0"],
        ["[b]dense", "Dense", "(None, 10)", "5,770"],
    ]
    # 448 + 64 + 5,770, of which the norm's two moving averages are not trained.
    assert lines[7:] == [
        "6,282 parameters (25.1 kB): 6,250 trainable, 32 not trainable",
        "precision float32, device CPU:0",
    ]


def test_a_functional_model_with_a_model_inside(keras):
    layers = keras.layers
    inner = keras.Sequential(
        [layers.Dense(4, name="in1"), layers.Dense(4, name="in2")], name="inner"
    )
    x = keras.Input((3,), name="x")
    heads = {"a": layers.Dense(2, name="head_a")(inner(x)), "b": inner(x)}
    lines = summary(keras.Model(x, heads, name="outer"))
    assert lines[0] == "outer: functional model"
    assert cells(lines[2:7]) == [
        ["x", "InputLayer", "(None, 3)", "0"],
        ["inner", "Sequential", "(None, 4)", "36"],
        ["  in1", "Dense", "(None, 4)", "16"],
        ["  in2", "Dense", "(None, 4)", "20"],
        ["head_a", "Dense", "(None, 2)", "10"],
    ]
    assert lines[8].startswith("46 parameters (184 bytes): 46 trainable")


@pytest.mark.filterwarnings("ignore:`build\\(\\)` was called")
def test_a_subclass_model_tells_what_its_layers_know(keras):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(5, name="dense")
            self.drop = keras.layers.Dropout(0.5, name="drop")
            self.unused = keras.layers.Dense(7, name="unused")

        def call(self, x):
            return self.drop(self.dense(x))

    model = Net()
    model(keras.KerasTensor((None, 3)))
    rows = {row[0]: row[1:] for row in cells(summary(model))}
    assert rows["dense"] == ["Dense", "(None, 5)", "20"]
    assert rows["drop"][:2] == ["Dropout", "(None, 5)"]
    assert rows["unused"][:2] == ["Dense", "?"]
    assert not any("call" in vars(layer) for layer in model.layers)
    assert rows["unused"] == ["Dense", "?", "0"]


def test_models_by_name_share_weights_that_count_once(keras):
    shared = keras.layers.Dense(4, name="shared")
    models = {}
    for name in ("generator", "critic"):
        x = keras.Input((3,))
        models[name] = keras.Model(x, keras.layers.Dense(1, dtype="float64")(shared(x)))
    lines = summary(models, precision="float64")
    assert "generator: functional model" in lines
    assert "critic: functional model" in lines
    # 16 shared 4-byte weights, and two heads of 5 with 8 bytes each.
    assert lines[-2] == "26 parameters (144 bytes): 26 trainable, 0 not trainable"
    assert lines[-1].startswith("precision float64")


def test_a_long_model_is_cut_in_the_middle(keras):
    stack = [keras.Input((2,)), *(keras.layers.Dense(2, name=f"d{i}") for i in range(100))]
    lines = summary(keras.Sequential(stack), max_rows=10)
    names = [row[0] for row in cells(lines[2:12])]
    assert names == ["d0", "d1", "d2", "d3", "d4", "d5", "... 91 more", "d97", "d98", "d99"]
    assert lines[8].split()[-1] == str(91 * 6)


def test_a_model_that_is_not_built_yet_is_no_error(keras):
    lines = summary(keras.Sequential([keras.layers.Dense(3, name="later")]))
    assert cells(lines)[2] == ["later", "Dense", "?", "0"]


# --- Early stopping -------------------------------------------------------------------------


def epochs(stop: EarlyStopping, values: list[float], trainer: FakeTrainer | None = None) -> int:
    """Return how many epochs ran before the stop, each with a validation at its end."""
    trainer = trainer or FakeTrainer()
    stop.on_fit_start(trainer)
    name = stop.monitor.name
    for count, value in enumerate(values):
        if trainer.stop_reason:
            return count
        stop.on_epoch_start(trainer)
        trainer.progress.step += 100
        trainer.metrics[name] = value
        if name.startswith("val/"):
            stop.on_validation_end(trainer, {name: value})
        trainer.progress.epoch += 1
        stop.on_epoch_end(trainer)
    return len(values)


def reference(values: list[float], patience: int, mode: str, min_delta: float) -> int:
    """Count epochs until none of the last `patience` values beat the best one before them."""
    sign = 1 if mode == "max" else -1
    best, since = -math.inf, 0
    for count, value in enumerate(values):
        better = math.isfinite(value) and sign * value > best + min_delta
        best, since = (sign * value, 0) if better else (best, since + 1)
        if since == patience:
            return count + 1
    return len(values)


# Multiples of 1/8: their differences are exact.
LOSSES = st.lists(st.integers(-20, 20).map(lambda n: n / 8) | st.just(math.nan), max_size=20)


@settings(deadline=None)
@given(LOSSES, st.integers(1, 4), st.sampled_from(["min", "max"]), st.sampled_from([0.0, 0.25]))
def test_it_stops_when_patience_runs_out(values, patience, mode, min_delta):
    for monitor in ("val/loss", "train/loss"):
        stop = EarlyStopping(monitor, mode, patience, min_delta)
        assert epochs(stop, values) == reference(values, patience, mode, min_delta)


@settings(deadline=None)
@given(LOSSES, st.integers(0, 20), st.integers(1, 4))
def test_a_restart_changes_nothing(values, cut, patience):
    whole = epochs(EarlyStopping(patience=patience), values)
    first = EarlyStopping(patience=patience)
    trainer = FakeTrainer()
    done = epochs(first, values[:cut], trainer)
    second = EarlyStopping(patience=patience)
    second.load_state(first.state())
    again = FakeTrainer()
    again.progress = trainer.progress
    assert done + epochs(second, values[done:], again) == whole


@pytest.mark.parametrize(
    ("monitor", "values", "reason"),
    [
        (
            "val/loss",
            [0.4312, 0.5, 0.5, 0.5],
            "val/loss has not improved on 0.4312 for 3 validations",
        ),
        (
            "train/accuracy",
            [0.9, 0.5, 0.5, 0.5],
            "train/accuracy has not improved on 0.9 for 3 epochs",
        ),
        ("val/loss", [math.nan] * 3, "val/loss has not been a number for 3 validations"),
    ],
)
def test_it_says_why(monitor, values, reason):
    trainer = FakeTrainer()
    epochs(EarlyStopping(monitor), values, trainer)
    assert trainer.stop_reason == f"early stopping: {reason}"


def test_a_run_that_was_stopped_stops_at_once_when_started_again():
    trainer = FakeTrainer()
    stop = EarlyStopping(patience=1)
    stop.load_state({"best": 0.5, "waited": 1})
    stop.on_fit_start(trainer)
    assert (
        trainer.stop_reason == "early stopping: val/loss has not improved on 0.5 for 1 validation"
    )
    # More patience than before lets it go on.
    trainer = FakeTrainer()
    more = EarlyStopping(patience=2)
    more.load_state({"best": 0.5, "waited": 1})
    more.on_fit_start(trainer)
    assert trainer.stop_reason == ""


def test_the_first_epochs_can_be_let_pass():
    # Without the wait, the second epoch's rise would stop it.
    assert epochs(EarlyStopping(patience=1), [1.0, 2.0, 3.0, 2.5, 2.6]) == 2
    assert epochs(EarlyStopping(patience=1, start_from_epoch=2), [1.0, 2.0, 3.0, 2.5, 2.6]) == 5


def test_an_unfinished_epoch_is_not_judged():
    stop = EarlyStopping("train/loss", patience=1)
    trainer = FakeTrainer()
    stop.on_epoch_start(trainer)
    trainer.progress.step = trainer.progress.batch = 50
    trainer.metrics["train/loss"] = 1.0
    stop.on_epoch_end(trainer)
    assert stop.state() == {"best": None, "waited": 0}


def test_validations_outside_training_are_not_judged():
    stop = EarlyStopping(patience=1)
    trainer = FakeTrainer()
    trainer.metrics["val/loss"] = 1.0
    stop.on_validation_end(trainer, {"val/loss": 1.0})  # A sanity check, before the first step.
    trainer.progress.step, trainer.stage = 100, "validate"
    stop.on_validation_end(trainer, {"val/loss": 1.0})
    assert stop.state() == {"best": None, "waited": 0}


def test_an_unknown_metric_is_refused_with_the_closest():
    stop = EarlyStopping("val/acuracy")
    trainer = FakeTrainer()
    trainer.progress.step = 100
    trainer.metrics = {"val/accuracy": 0.5, "val/loss": 1.0, "train/loss": 1.0}
    with pytest.raises(UserError) as error:
        stop.on_validation_end(trainer, trainer.metrics)
    assert error.value.where == "callbacks.early_stopping.monitor"
    assert "'val/accuracy'" in str(error.value.fix)


def test_without_validation_it_says_how_to_get_one():
    trainer = FakeTrainer()
    trainer.has_validation = False
    with pytest.raises(UserError, match=r"data\.val_fraction=0\.1") as error:
        EarlyStopping().on_fit_start(trainer)
    assert error.value.where == "callbacks.early_stopping.monitor"
    EarlyStopping("train/loss").on_fit_start(trainer)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("monitor", "loss"),
        ("monitor", "test/loss"),
        ("monitor", "val/"),
        ("mode", "maximum"),
        ("patience", 0),
        ("patience", True),
        ("patience", 1.5),
        ("min_delta", -0.1),
        ("min_delta", math.nan),
        ("start_from_epoch", -1),
        ("start_from_epoch", 0.5),
    ],
)
def test_arguments_out_of_range_are_refused(name, value):
    with pytest.raises(UserError) as error:
        EarlyStopping(**{name: value})
    assert error.value.where == f"callbacks.early_stopping.{name}"
