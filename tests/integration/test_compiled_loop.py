"""The compiled loop: stretches that change no bit, traces, wake-ups, and the way to a step."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import LogRows, Net, blobs, busy_data, dense, differing, fitted, make_trainer, noisy

import framework
from framework import Callback, Data, Every, Trainer
from framework.loggers.csv import CSVLogger
from framework.loop import span_length
from framework.loop.compiled import Loop, Span
from framework.sources.streams import StreamSource


class PerBatch(Callback):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self.steps.append(trainer.progress.step)


class Runs:
    """Counts the calls of `Loop.run` and their lengths."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stretches: list[tuple[int, int]] = []
        run = Loop.run

        def counted(loop: Loop, span: Span) -> Any:
            self.stretches.append((span.start, span.stop))
            return run(loop, span)

        monkeypatch.setattr(Loop, "run", counted)


def busy_run(**options: Any) -> Trainer:
    task = Net(noisy, optimizer=lambda: keras.optimizers.AdamW(1e-2))
    return fitted(task, busy_data(val=None), **{"max_epochs": 3, "engine": "graph", **options})


@pytest.fixture(scope="module")
def whole() -> Trainer:
    """39 steps in three epochs, cut only where the epochs end."""
    return busy_run(log_every="1ep")


@pytest.mark.parametrize("cut", ["1st", "7st", "50st", "0.5ep", "callback", "shortest", "wakes"])
def test_cutting_into_stretches_changes_no_bit(
    cut: str, whole: Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"log_every": "1ep"}
    runs = Runs(monkeypatch)
    if cut == "callback":
        options["callbacks"] = [per_batch := PerBatch()]
    elif cut == "shortest":
        monkeypatch.setattr(span_length, "LONGEST", 1e-9)
    elif cut == "wakes":
        options["callbacks"] = [woken := Woken("5st"), Woken("0.3ep")]
    else:
        options["log_every"] = cut
    other = busy_run(**options)
    if cut in ("1st", "callback", "shortest"):
        assert len(runs.stretches) == 39
    if cut == "callback":
        assert per_batch.steps == list(range(1, 40))
    if cut == "wakes":
        assert woken.steps == [5, 10, 15, 20, 25, 30, 35]
    assert differing(whole, other) == []
    assert other.metrics["train/loss"] == pytest.approx(whole.metrics["train/loss"], rel=1e-12)


class Woken(Callback):
    def __init__(self, every: str) -> None:
        self.every, self.steps = Every(every), []

    def on_wake(self, trainer: Trainer) -> None:
        self.steps.append(trainer.progress.step)


def test_what_the_bits_cover(whole: Trainer) -> None:
    """The comparison would see dropout's counter, batch norm's means, and Adam's slots."""
    state = whole.state()
    weights, slots = " ".join(state["models"]["model"]), " ".join(state["optimizers"]["optimizer"])
    assert "seed_generator" in weights
    assert "moving_variance" in weights
    assert "momentum" in slots
    assert "velocity" in slots


def test_eager_and_graph_agree(whole: Trainer) -> None:
    eager = busy_run(engine="eager", log_every="4st")
    pairs = zip(whole.task.model.get_weights(), eager.task.model.get_weights(), strict=True)
    assert max(np.abs(a - b).max() for a, b in pairs) < 1e-6
    assert eager.metrics == pytest.approx(whole.metrics, abs=1e-6)


def test_the_same_seed_gives_the_same_bits_and_the_same_csv(tmp_path: Path) -> None:
    runs, files = [], []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        task = Net(noisy)
        trainer = make_trainer(
            max_epochs=2, log_every="3st", seed=seed, run_dir=tmp_path / name, loggers=[CSVLogger()]
        )
        trainer.fit(task, busy_data())
        runs.append(trainer)
        files.append((tmp_path / name / "metrics.csv").read_bytes())
    assert differing(runs[0], runs[1]) == []
    assert files[0] == files[1]
    assert len(files[0].splitlines()) == 1 + 10
    assert len(differing(runs[0], runs[2])) > 5
    assert files[0] != files[2]


class Counting(Net):
    """Counts how often Python runs its step, which compiled is once for each trace."""

    def __init__(self, *args: Any, **parts: Any) -> None:
        super().__init__(*args, **parts)
        self.train_calls, self.eval_calls = 0, 0

    def train_step(self, batch: Any) -> Any:
        self.train_calls += 1
        return super().train_step(batch)

    def eval_step(self, batch: Any) -> None:
        self.eval_calls += 1
        super().eval_step(batch)


@pytest.mark.parametrize(("rows", "shapes"), [(40, 1), (43, 2), (5, 1)])
def test_a_step_is_traced_once_for_each_batch_shape(rows: int, shapes: int) -> None:
    task = Counting(dense)
    data = Data(train=blobs(rows), val=blobs(10), batch_size=8, eval_batch_size=8)
    fitted(task, data, max_epochs=6, log_every="2st", val_every="3st", sanity_val_steps=1)
    assert (task.train_calls, task.eval_calls) == (shapes, 2)


def test_an_unbuilt_model_costs_one_trace_more() -> None:
    task = Counting(noisy)
    fitted(task, Data(train=blobs(40), batch_size=8), max_epochs=3)
    assert task.train_calls == 2


def test_a_stream_is_traced_once() -> None:
    task = Counting(dense)
    stream = tf.data.Dataset.from_tensor_slices(blobs(43)).batch(8)
    fitted(task, Data(train=stream), max_epochs=4, log_every="2st")
    assert task.train_calls == 1


def test_with_nobody_asking_the_host_sleeps(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(monkeypatch)
    data = Data(train=blobs(4_000), batch_size=2)
    trainer = fitted(Net(), data, max_epochs=1, log_every="1ep", enable_checkpointing=False)
    assert trainer.progress.step == 2_000
    # 1, 8, 64, 512 steps while the speed is being learnt, then a stretch about every second.
    assert len(runs.stretches) <= 6 + trainer.progress.seconds
    assert sum(stop - start for start, stop in runs.stretches) == 2_000


class Stacked(Net):
    """Keeps the stack that its step is called from."""

    def train_step(self, batch: Any) -> Any:
        self.frames = traceback.extract_stack()
        return super().train_step(batch)


@pytest.mark.parametrize("engine", ["graph", "eager"])
@pytest.mark.parametrize("kind", ["arrays", "ragged", "stream", "unknown length"])
def test_from_fit_to_the_step_are_five_frames_in_three_files(engine: str, kind: str) -> None:
    task = Stacked(dense)
    train: Any = blobs(43 if kind == "ragged" else 40)
    if kind in ("stream", "unknown length"):
        train = tf.data.Dataset.from_tensor_slices(train).batch(8)
    if kind == "unknown length":
        train = train.filter(lambda *_: True)
        assert train.cardinality() == tf.data.UNKNOWN_CARDINALITY
    fitted(task, Data(train=train, batch_size=8), max_epochs=1, engine=engine)
    library = str(Path(framework.__file__).parent)
    calls: Sequence[traceback.FrameSummary] = [
        f for f in task.frames if f.filename.startswith(library)
    ]
    names = [frame.name for frame in calls]
    path = calls[names.index("fit") :]
    assert len(path) <= 5, names
    assert len({frame.filename for frame in path}) <= 3


@pytest.mark.parametrize("variant", ["graph", "eager"])
@pytest.mark.parametrize(
    ("start", "stop", "done"),
    [(0, 9, (6, 43, True)), (0, 4, (4, 32, False)), (4, 9, (2, 11, True))],
)
def test_a_loop_says_what_it_did_of_a_span(
    variant: str, start: int, stop: int, done: tuple[int, int, bool]
) -> None:
    data = tf.data.Dataset.range(43).batch(8).filter(lambda _: True)  # 6 batches, the last of 3
    seen = tf.Variable(tf.zeros([], tf.int64))

    def step(batch: Any, global_step: Any) -> tf.Tensor:
        seen.assign_add(tf.reduce_sum(batch.values) + global_step)
        return tf.cast(batch.rows, tf.int64)

    loop = Loop(StreamSource(data), step, variant=variant)
    assert loop.run(Span(0, start, stop, global_step=100)) == done
    steps, examples, _ = done
    rows = range(start * 8, start * 8 + examples)
    assert int(seen.numpy()) == sum(rows) + sum(100 + i for i in range(steps))


def test_global_step_and_total_steps_in_a_step_and_on_the_host() -> None:
    class Steps(Net):
        def train_step(self, batch: Any) -> Any:
            self.log("step", self.global_step)
            self.log("total", self.total_steps)
            return super().train_step(batch)

        def eval_step(self, batch: Any) -> None:
            self.log("step", tf.cast(self.global_step, tf.float32))

        def on_epoch_end(self) -> None:
            seen.append(int(self.trainer.progress.step))

    seen: list[int] = []
    log = LogRows()
    data = Data(train=blobs(43), val=blobs(24), batch_size=8, eval_batch_size=8)
    fitted(Steps(), data, max_epochs=2, log_every="1st", callbacks=[log])
    assert [row["train/step"] for _, row in log.rows] == list(range(12))
    assert {row["train/total"] for _, row in log.rows} == {12}
    assert [row["val/step"] for _, row in log.val] == [6, 12]
    assert seen == [6, 12]


def test_branches_and_loops_on_tensors_are_compiled() -> None:
    class Branching(Net):
        def train_step(self, batch: Any) -> Any:
            x, _ = batch
            scale = tf.constant(1.0)
            for _ in tf.range(2):
                scale *= 0.5
            if tf.reduce_sum(x) > 1e9:
                scale = tf.constant(0.0)
            loss = super().train_step(batch)
            self.log("scale", scale)
            return loss * scale

    assert fitted(Branching(), Data(train=blobs(16))).metrics["train/scale"] == 0.25
