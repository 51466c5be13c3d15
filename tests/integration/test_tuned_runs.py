"""`engine=auto`: what it tries leaves nothing behind, and is remembered."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf
from helpers import LogRows, Net, blobs, busy_data, differing, fitted, make_trainer, noisy

from framework import Callback, Data, Trainer
from framework.loop import tuning
from framework.loop.compiled import Loop
from framework.loop.tuning import Tuner


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "keras-task-framework" / "engines.json"


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """However short the run is, it is worth while."""
    monkeypatch.setattr(tuning, "SHARE", 1e9)
    monkeypatch.setattr(tuning, "MOST_SECONDS", 1e9)
    monkeypatch.setattr(tuning, "FEWEST_STEPS", 0)


def prefer(monkeypatch: pytest.MonkeyPatch, variant: str) -> list[list[str]]:
    """Have the race won by one variant; returns who ran in each race, each for real."""
    races: list[list[str]] = []
    race = tuning._race

    def won(loops: Any, end: float) -> dict[str, float]:
        races.append([loop.variant for loop in loops])
        return {name: 100.0 + (name == variant) * 900.0 for name in race(loops, 0.0)}

    monkeypatch.setattr(tuning, "_race", won)
    return races


class Everything(Net):
    """Keeps all the state that there is."""

    def __init__(self) -> None:
        super().__init__(noisy, optimizer=lambda: keras.optimizers.AdamW(1e-2))

    def build_model(self) -> Any:
        self.seeds = keras.random.SeedGenerator(7)
        self.seen = self.variable("seen", 0)
        self.metric = keras.metrics.SparseCategoricalAccuracy()
        self.plain = tf.Variable(0.0)
        return super().build_model()

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        x += keras.random.normal(tf.shape(x), seed=self.seeds) * 0.01
        self.seen.assign_add(1)
        self.plain.assign_add(tf.reduce_mean(x))
        self.metric.update_state(y, x[:, :3])
        self.log("metric", self.metric)
        return super().train_step((x, y))


@pytest.mark.usefixtures("always")
@pytest.mark.parametrize(("variant", "make"), [("graph", Everything), ("loop_xla", Net)])
def test_what_was_tried_leaves_no_bit_behind(
    variant: str,
    make: type[Net],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    races = prefer(monkeypatch, variant)
    caplog.set_level(logging.INFO, "framework")

    def run(engine: str) -> tuple[Trainer, Any, list[Any]]:
        task, rows = make(), LogRows()
        options: dict[str, Any] = {"callbacks": [rows], "log_every": "3st", "max_epochs": 2}
        if make is Everything:
            options["precision"] = "mixed_float16"
        trainer = fitted(task, busy_data(40), engine=engine, **options)
        return trainer, task, [rows.rows, rows.val]

    (tuned, task, rows), (plain, other, expected) = run("auto"), run(variant)
    assert tuned.result()["engine"] == tuned.engine == variant
    assert tuned.result()["tuning"]["source"] == "measured"
    assert tuned.result()["tuning"]["steps_per_second"][variant] == 1000.0
    assert plain.result()["tuning"] is None
    assert len(races) == 1
    assert races[0][:2] == ["graph", "loop_xla"]
    assert differing(tuned, plain) == []
    if make is Everything:
        assert task.seeds.state.numpy().tolist() == other.seeds.state.numpy().tolist()
        assert task.plain.numpy() == other.plain.numpy()
    assert rows == expected
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("engine=auto")]
    assert len(lines) == 1
    assert lines[0].startswith(f"engine=auto: {variant} (graph ")
    assert "loop_xla 1" in lines[0]


@pytest.mark.usefixtures("always")
def test_a_measurement_is_remembered_until_it_is_to_be_forgotten(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    races: list[float] = []

    def race(loops: Any, end: float) -> dict[str, float]:
        races.append(end)
        return {"graph": 100.0, "loop_xla": 1000.0}

    def compiled(tuner: Tuner, graph: Loop, *_: float) -> dict[Loop, float]:
        return {graph: 0.0, Loop(graph.source, graph.step, variant="loop_xla"): 1.0}

    monkeypatch.setattr(tuning, "_race", race)
    monkeypatch.setattr(Tuner, "_compiled", compiled)
    monkeypatch.setattr(tuning, "_seconds", lambda loop, steps: steps * 0.01)
    monkeypatch.setattr(Loop, "trace", lambda loop, stop=None: None)
    sources = []

    def run(steps: int = 10_000, **options: Any) -> str:
        trainer = make_trainer(engine="auto", max_steps=steps, callbacks=[AtOnce()], **options)
        trainer.fit(Net(), Data(train=blobs(40), batch_size=8))
        sources.append(trainer.result()["tuning"]["source"])
        return trainer.engine

    assert [run(), run(), len(races)] == ["loop_xla", "loop_xla", 1]
    assert [run(retune=True), len(races)] == ["loop_xla", 2]
    assert [run(precision="mixed_bfloat16"), len(races)] == ["loop_xla", 3]
    assert sources == ["measured", "remembered", "measured", "measured"]
    # 111 steps save 111 * (1/100 - 1/1000) = 0.999 s, less than the second of compiling.
    assert [run(steps=111), run(steps=112), len(races)] == ["graph", "loop_xla", 3]
    cache.write_text('{"not": json')
    assert [run(), len(races)] == ["loop_xla", 4]
    cache.unlink()
    cache.parent.rmdir()
    cache.parent.write_text("a file where a directory is wanted")
    assert [run(), run(), len(races)] == ["loop_xla", "loop_xla", 6]


class AtOnce(Callback):
    """Ends a run before its first step."""

    def on_fit_start(self, trainer: Trainer) -> None:
        trainer.stop("enough")


@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("a short run", {"max_epochs": 2}),
        ("fast_dev_run", {"fast_dev_run": True}),
        ("several devices", {"devices": 2, "max_epochs": 50}),
        ("data that are not on the device", {"max_epochs": 50}),
        (
            "the numbers of RandomStandardNormal could not be repeated; use "
            "keras.random or tf.random.stateless_…",
            {"max_epochs": 50},
        ),
    ],
)
def test_where_nothing_is_measured(
    source: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_seconds", None)  # nothing runs to be timed

    class Draws(Net):
        def train_step(self, batch: Any) -> Any:
            x, y = batch
            return super().train_step((x + tf.random.normal(tf.shape(x)), y))

    data: Any = blobs(40)
    if source == "data that are not on the device":
        data = tf.data.Dataset.from_tensor_slices(data).batch(8)
    task = Draws() if "Random" in source else Net()
    trainer = make_trainer(engine="auto", callbacks=[AtOnce()], **options)
    trainer.fit(task, Data(train=data, batch_size=8))
    assert trainer.engine == "graph"
    assert trainer.result()["tuning"] == {"source": source}


def test_what_a_run_began_with_it_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever would be chosen now, and with the bits of a run that was not stopped."""

    def run(name: str, engine: str, epochs: int) -> Trainer:
        trainer = make_trainer(engine=engine, max_epochs=epochs, run_dir=tmp_path / name)
        trainer.fit(Net(), busy_data(40))
        return trainer

    whole = run("whole", "loop_xla", 2)
    run("cut", "loop_xla", 1)
    monkeypatch.setattr(Tuner, "_cached_variant", None)  # nothing is chosen
    continued = run("cut", "auto", 2)
    assert continued.engine == "loop_xla"
    assert differing(whole, continued) == []
    assert caplog.text.count("rounds differently") == 0
    assert run("cut", "graph", 3).engine == "graph"
    assert "the run started with engine=loop_xla; graph rounds differently" in caplog.text
