"""What a run is continued with: its own state, its own data, the options that it began with."""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import pkgutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import (
    FEATURES,
    LogRows,
    Net,
    StopAt,
    blobs,
    busy_data,
    dense,
    differing,
    make_trainer,
    noisy,
)
from tensorflow.python.eager import context

import framework
from framework import Callback, Data, Every, Trainer, UserError
from framework.callbacks.checkpoint import Checkpoint
from framework.callbacks.early_stopping import EarlyStopping
from framework.callbacks.ema import EMA
from framework.callbacks.keras.wrapper import KerasCallback
from framework.callbacks.reduce_on_plateau import ReduceOnPlateau
from framework.checkpoint.retention import Retention
from framework.checkpoint.saver import Saver
from framework.checkpoint.store import CheckpointStore
from framework.config import TrainerConfig
from framework.core.lock import RunLock
from framework.core.progress import Progress
from framework.core.state import variables_state
from framework.loggers.csv import CSVLogger
from framework.loggers.tensorboard import TensorBoardLogger
from framework.run.stop_condition import StopCondition
from framework.run.wakeup_plan import Triggers
from framework.sources.resumable import obstacle
from framework.step.averaging import Average
from framework.step.optimizers import Optimizers
from framework.step.precision import LossScale

ROOT = Path(__file__).parents[1]
FORMATS = Path(__file__).parent / "formats"


class Noisy(Net):
    """Draws from a generator of its own and from Keras's global one."""

    def build_model(self) -> Any:
        self.noise = [keras.random.SeedGenerator(3)]
        return super().build_model()

    def train_step(self, batch: Any) -> Any:
        x, y = batch
        x = x + 0.1 * keras.random.normal(tf.shape(x), seed=self.noise[0])
        return super().train_step((x + 0.1 * keras.random.normal(tf.shape(x)), y))


def run(run_dir: Path | None, *callbacks: Callback, data: Any = None, **options: Any) -> Any:
    """13 steps an epoch, validated at every fifth step, in mid-epoch too."""
    given = {"max_epochs": 2, "log_every": "4st", "val_every": "5st", "run_dir": run_dir}
    loggers = [CSVLogger(), TensorBoardLogger()] if run_dir else []
    trainer = make_trainer(callbacks=list(callbacks), loggers=loggers, **given | options)
    task = Noisy(noisy, optimizer=lambda: keras.optimizers.Adam(1e-2))
    trainer.fit(task, busy_data() if data is None else data)
    return trainer


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Trainer, Path]:
    path = tmp_path_factory.mktemp("unbroken")
    return run(path), path


class Signal(Callback):
    """SIGTERM comes while the host handles a step."""

    def __init__(self, step: int, hook: str) -> None:
        self.step, self.every = step, Every("1st")
        setattr(self, hook, self._send)

    def _send(self, trainer: Trainer, *_: Any) -> None:
        if trainer.progress.step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(
    ("step", "hook"), [(8, "on_log"), (20, "on_log"), (20, "on_validation_start")]
)
def test_what_was_due_where_a_signal_came_is_done_later(
    step: int, hook: str, unbroken: tuple[Trainer, Path], tmp_path: Path
) -> None:
    whole, whole_dir = unbroken
    with pytest.raises(SystemExit, match="143"):
        run(tmp_path, Signal(step, hook))
    trainer = run(tmp_path)
    assert differing(whole, trainer) == []
    assert trainer.metrics == whole.metrics
    assert (tmp_path / "metrics.csv").read_bytes() == (whole_dir / "metrics.csv").read_bytes()


def test_two_devices_continue_exactly_with_whatever_they_draw(tmp_path: Path) -> None:
    # Judged by an average, of batch statistics too, which has to be the same on both of them.
    options = {"devices": 2, "max_epochs": 1}
    whole = run(None, EMA(0.5), **options)
    with pytest.raises(SystemExit, match="143"):
        run(tmp_path, Signal(9, "on_wake"), EMA(0.5), **options)
    trainer = run(tmp_path, EMA(0.5), **options)
    assert trainer.progress.step == 13
    assert differing(whole, trainer) == []
    assert trainer.metrics == whole.metrics


class Draws(Net):
    def train_step(self, batch: Any) -> Any:
        drawn = self.gather(keras.random.uniform([1]))  # without a seed of its own
        self.log("spread", tf.reduce_max(drawn) - tf.reduce_min(drawn))
        return super().train_step(batch)


def test_devices_draw_differently_from_the_global_generator() -> None:
    trainer = make_trainer(devices=2, max_steps=4, log_every="1st")
    trainer.fit(Draws(), Data(train=blobs(32), batch_size=8))
    assert trainer.metrics["train/spread"] > 1e-3


@pytest.mark.parametrize("first", [{"max_epochs": 1}, {"max_steps": 7}, {"max_time": "0.001s"}])
def test_a_later_end_continues_as_if_there_had_been_no_other(
    first: dict[str, Any], unbroken: tuple[Trainer, Path], tmp_path: Path
) -> None:
    whole, whole_dir = unbroken
    ended = run(tmp_path, **first)
    assert 0 < ended.progress.step < 26
    ended.test(ended.task, Data(test=blobs(16)))
    trainer = run(tmp_path)
    assert (trainer.progress.step, trainer.already_complete) == (26, False)
    assert differing(whole, trainer) == []
    trainer.test(trainer.task, Data(test=blobs(16)))
    rows = (tmp_path / "metrics.csv").read_text().splitlines()
    assert [row.rpartition(",test/")[0] or row for row in rows[:1]] != rows[:1]
    kept = [",".join(row.split(",")[:-2]) for row in rows]
    assert kept == (whole_dir / "metrics.csv").read_text().splitlines()


def test_a_complete_run_says_so(
    unbroken: tuple[Trainer, Path], caplog: pytest.LogCaptureFixture
) -> None:
    whole, path = unbroken
    before = (path / "metrics.csv").read_bytes()
    with caplog.at_level(logging.INFO, "framework"):
        trainer = run(path)
    assert trainer.already_complete
    assert "already complete: max_epochs=2 reached (step 26)" in caplog.text
    assert trainer.metrics == whole.metrics
    assert (path / "metrics.csv").read_bytes() == before


def test_resume_never_and_must(unbroken: tuple[Trainer, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is a run in .* already"):
        run(unbroken[1], resume="never")
    with pytest.raises(UserError, match="there is no run to continue"):
        run(tmp_path / "none", resume="must")
    assert not (tmp_path / "none").exists()
    with pytest.raises(UserError, match=r"seed +0 +1"):
        run(unbroken[1], seed=1)


# ---- the contract


def stateful_classes() -> set[type]:
    found = set()
    for module in pkgutil.walk_packages(framework.__path__, "framework."):
        if "__main__" in module.name:
            continue
        for _, each in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            own = {"state", "load_state"} <= set(vars(each)) and not inspect.isabstract(each)
            own = own and not getattr(each, "_is_protocol", False)
            if own and each.__module__.startswith("framework."):
                found.add(each)
    return found


def _variables(seed: int) -> list[keras.Variable]:
    random = np.random.RandomState(seed)
    return [keras.Variable(random.randn(3).astype("f4"), name=f"v{i}") for i in range(2)]


def _changed(thing: Any, **values: Any) -> Any:
    for name, value in values.items():
        setattr(thing, name, value)
    return thing


def _scale(value: float) -> LossScale:
    scale = LossScale(value)
    scale.good_steps.assign(7)
    return scale


def _optimizers(steps: int) -> Optimizers:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
    made = Optimizers(keras.optimizers.Adam(0.1), {"model": model})
    made.build()
    for _ in range(steps):
        adam = next(iter(made)).optimizer
        adam.apply([tf.ones_like(v) for v in model.trainable_variables])
    return made


def _timers(elapsed: float) -> Triggers:
    timers = Triggers({"val": Every("10min"), "log": Every("5st")}, lambda: 100.0)
    timers["val"].elapsed = elapsed
    return timers


def _average(seed: int) -> Average:
    average = Average(_variables(0), decay=0.9)
    for copy, value in zip(average.copies, _variables(seed), strict=True):
        copy.assign(value)
    return average


def _keras(waited: int) -> KerasCallback:
    callback = KerasCallback(keras.callbacks.EarlyStopping("loss"))
    callback.callback.wait = waited
    return callback


# Each: something that has changed, and the same thing as it is made.
PAIRS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "Progress": lambda: (Progress(1, 2, 3, 4, 5.5, "log"), Progress()),
    "StopCondition": lambda: (
        _changed(StopCondition(TrainerConfig()), _time_began=3.5),
        StopCondition(TrainerConfig()),
    ),
    "Triggers": lambda: (_timers(70.0), _timers(0.0)),
    "LossScale": lambda: (_scale(64.0), LossScale()),
    "Optimizers": lambda: (_optimizers(3), _optimizers(0)),
    "Average": lambda: (_average(5), _average(0)),
    "EarlyStopping": lambda: (_changed(EarlyStopping(), best=0.5, waited=2), EarlyStopping()),
    "Checkpoint": lambda: (_changed(Checkpoint(), _kept=4), Checkpoint()),
    "KerasCallback": lambda: (_keras(3), _keras(0)),
    "ReduceOnPlateau": lambda: (
        _changed(ReduceOnPlateau(), best=0.25, waited=3),
        ReduceOnPlateau(),
    ),
}
# What the runs of this file and of test_checkpoint.py take to pieces and put together again.
IN_RUNS = {
    "Callback", "Hooks", "MetricLog", "Epochs", "Components", "Trainer", "Run", "Fitting",
    "EMA", "SWA", "Attributes", "KerasCallback",
}  # fmt: skip


def test_no_stateful_class_is_forgotten() -> None:
    assert {each.__name__ for each in stateful_classes()} - IN_RUNS - PAIRS.keys() == set()


def leaves(tree: Any) -> list[str]:
    """What a state holds, whatever Keras has numbered the names of variables by."""
    return [repr(leaf) for leaf in keras.tree.flatten(tree)]


@pytest.mark.parametrize("name", sorted(PAIRS.keys() - {"KerasCallback"}))
def test_a_state_survives_the_disk(name: str, tmp_path: Path) -> None:
    changed, fresh = PAIRS[name]()
    expected = leaves(changed.state())
    assert leaves(fresh.state()) != expected, "the test would show nothing"
    store = CheckpointStore(tmp_path)
    fresh.load_state(store.load(store.save(1, changed.state())))
    assert leaves(fresh.state()) == expected


def test_a_state_that_no_file_can_hold_is_named(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(UserError, match="a set in a state") as error:
        store.save(1, {"callbacks": {"Mine-0": {"seen": {1, 2}}}})
    assert error.value.where == "/callbacks/Mine-0/seen"
    with pytest.raises(UserError, match="the key 3 in a state"):
        store.save(1, {"callbacks": {3: 1}})
    assert list(tmp_path.iterdir()) == []


# ---- the store


def jitter_of_the_saved(batch: Any, seed: tf.Tensor) -> Any:
    """The augmentation of the runs that were saved: `expected.json` holds how they went on."""
    x, y = batch
    return x + tf.random.stateless_normal(tf.shape(x), seed, stddev=0.1), y


@pytest.mark.parametrize("format", sorted(int(p.name[7:]) for p in FORMATS.glob("format-*")))
def test_every_format_can_be_continued(format: int, tmp_path: Path) -> None:
    path = str(FORMATS / f"format-{format}")
    expected = json.loads((FORMATS / "expected.json").read_text())[str(format)]
    trainer = make_trainer(max_epochs=2, log_every="4st", callbacks=[EarlyStopping(patience=9)])
    task = Net(noisy, optimizer=lambda: keras.optimizers.Adam(1e-2))
    trainer.fit(task, busy_data(augment=jitter_of_the_saved), checkpoint=path)
    assert trainer.progress.step == 26
    found = [float(np.abs(w).sum()) for w in task.model.get_weights()]
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_what_is_kept() -> None:
    def manifest(step: int, value: float | None, permanent: bool = False) -> dict[str, Any]:
        judged = None if value is None else {"metric": "m", "value": value, "mode": "max"}
        return {"step": step, "judged": judged, "permanent": permanent}

    there = [manifest(1, 0.9), manifest(2, 0.1, True), manifest(3, 0.5), manifest(4, None)]
    assert Retention(last=1, best=1, mode="max").kept(there) == {1, 2, 4}
    assert Retention(last=2, best=2, mode="max").kept(there) == {1, 2, 3, 4}
    assert Retention(last=1, best=1, mode="min").kept(there) == {2, 4}
    assert Retention(last=1, best=0).kept(there) == {2, 4}


def test_when_checkpoints_are_saved_and_which_stay(tmp_path: Path) -> None:
    log = LogRows()
    checkpoint = Checkpoint("val/loss", save_every="3st", keep_last=2, keep_every="11st")
    trainer = run(tmp_path, checkpoint, log)
    losses = {step: row["val/loss"] for step, row in log.val}
    best = min(losses, key=losses.__getitem__)
    improved = [s for s in losses if losses[s] == min(losses[t] for t in losses if t <= s)]
    saved = sorted({*range(3, 27, 3), *improved, 26})
    # The first save past 11 and past 22 steps stays for good.
    assert trainer.checkpoints.steps() == sorted({12, 24, *saved[-2:], best})
    assert trainer.best == {"step": best, "metric": "val/loss", "value": losses[best]}
    assert trainer.checkpoints.best() == trainer.best
    for step in trainer.checkpoints.steps():  # none is judged by a stale value
        manifest = json.loads((trainer.checkpoints.path(step) / "manifest.json").read_text())
        assert (manifest["judged"] or {}).get("value") == losses.get(step)


def test_a_save_that_fails_is_reported_and_the_earlier_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path)
    saver = Saver(store)
    saver.save(1, {"a": np.ones(3)}, Retention(), wait=True)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    saver.save(2, {"a": np.ones(3)}, Retention(), wait=False)
    saver.wait()
    assert "the checkpoint of step 2 could not be saved: No space left on device" in caplog.text
    assert "the last whole one is of step 1" in caplog.text
    with pytest.raises(OSError, match="No space"):
        saver.save(3, {"a": np.ones(3)}, Retention(), wait=True)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_a_checkpoint_that_is_replaced_is_never_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, {"a": 1})
    child = os.fork()
    if not child:  # killed between taking the old one away and putting the new one there
        os.replace = lambda *_: os._exit(9)  # type: ignore[assignment]
        store.save(1, {"a": 2})
    os.waitpid(child, 0)
    assert store.steps() == []
    (tmp_path / ".step-00000002-77").mkdir()  # and one half-written
    store.recover()
    assert store.load(store.find("last")) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_names_that_are_no_checkpoints_are_left_alone(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(99_999_999, {"a": 1})
    store.save(100_000_000, {"a": 2})  # more digits than the others: not by their letters
    (tmp_path / "step-00000005-copy").mkdir()
    assert store.steps() == [99_999_999, 100_000_000]
    assert store.load(store.find("last")) == {"a": 2}


def test_a_run_directory_belongs_to_one_process(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from framework.core.lock import RunLock\n"
        "with RunLock(Path(sys.argv[1])): print('held')"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}

    def another() -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    with RunLock(tmp_path):
        child = os.fork()
        if not child:  # a forked helper, such as a data loader, that outlives its parent's hold
            signal.pause()
        assert f"process {os.getpid()}" in another().stderr
    try:
        assert another().stdout == "held\n"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# ---- data


def seeded() -> tf.data.Dataset:
    return tf.data.Dataset.from_tensor_slices(blobs(40)).shuffle(40, seed=5).batch(8).prefetch(1)


def nested() -> tf.data.Dataset:
    rows = tf.data.Dataset.from_tensor_slices(blobs(20))
    return rows.shuffle(20, seed=1).repeat(2).shuffle(9, seed=2).batch(8)


def by_epoch(epoch: int) -> Iterator[Any]:
    x, y = blobs(40, seed=epoch)
    for i in range(0, 40, 8):
        yield x[i : i + 8], y[i : i + 8]


class Reshuffled(keras.utils.PyDataset):
    def __init__(self) -> None:
        super().__init__()
        self.draw, (self.x, self.y) = np.random.RandomState(3), blobs(40)
        self.order = np.arange(40)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, i: int) -> Any:
        rows = self.order[8 * i : 8 * i + 8]
        return self.x[rows], self.y[rows]

    def on_epoch_end(self) -> None:
        self.order = self.draw.permutation(40)


@pytest.mark.parametrize(
    ("make", "step"), [(seeded, 13), (nested, 10), (lambda: by_epoch, 13), (Reshuffled, 13)]
)
def test_streams_continue_exactly(make: Any, step: int, tmp_path: Path) -> None:
    options = {"val_every": None, "max_epochs": 4}
    whole = run(None, data=Data(train=make()), **options)
    run(tmp_path, StopAt(step), data=Data(train=make()), **options)
    trainer = run(tmp_path, data=Data(train=make()), **options)
    assert trainer.progress.step == 20
    assert differing(whole, trainer) == []


def zero_arguments() -> Iterator[Any]:
    return by_epoch(0)


def test_what_cannot_be_continued_is_refused_or_accepted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="could not be continued exactly: it is a generator"):
        run(tmp_path / "a", data=Data(train=zero_arguments))
    assert not (tmp_path / "a").exists()
    run(None, data=Data(train=zero_arguments), max_steps=2)  # nothing is kept: nothing is promised
    options = {"val_every": None, "max_epochs": 2, "resume_data": "restart"}
    run(tmp_path / "b", StopAt(7), data=Data(train=zero_arguments), **options)
    trainer = run(tmp_path / "b", data=Data(train=zero_arguments), **options)
    assert trainer.progress.step == 10


@pytest.fixture
def without_a_global_seed() -> Iterator[None]:
    former = context.global_seed()
    tf.random.set_seed(None)
    yield
    tf.random.set_seed(former)


@pytest.mark.usefixtures("without_a_global_seed")
def test_what_makes_a_dataset_a_matter_of_chance() -> None:
    rows = tf.data.Dataset.range(20)
    assert obstacle(rows.batch(4)) is None
    assert obstacle(seeded()) is None
    assert obstacle(nested()) is None
    assert "without a seed" in str(obstacle(rows.shuffle(20)))
    assert "without a seed" in str(obstacle(rows.interleave(lambda x: rows.shuffle(3))))
    tf.random.set_seed(1)  # TensorFlow derives the seed of each operation from it
    assert obstacle(rows.shuffle(20)) is None
    drawn = rows.map(lambda x: tf.cast(x, tf.float32) + tf.random.uniform([]))
    assert "tf.random.uniform" in str(obstacle(drawn))
    python = rows.map(lambda x: tf.py_function(lambda y: y, [x], tf.int64))
    assert "py_function" in str(obstacle(python))
    racing = rows.map(lambda x: x, num_parallel_calls=2, deterministic=False)
    assert "deterministic" in str(obstacle(racing))


# ---- weights only


def test_weights_that_fit_are_taken_and_the_others_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def network(units: int, last: str) -> Callable[[], Any]:
        layers = keras.layers
        return lambda: keras.Sequential(
            [
                keras.Input((FEATURES,)),
                layers.Dense(units, name="first"),
                layers.Dense(3, name=last),
            ],
            name="net",
        )

    def fit(task: Net, **options: Any) -> Trainer:
        trainer = make_trainer(max_steps=2, **options)
        trainer.fit(task, Data(train=blobs(16), batch_size=8))
        return trainer

    fit(Net(network(5, "last")), run_dir=tmp_path)
    task = Net(network(5, "other"), optimizer=lambda: keras.optimizers.SGD(1e-30))
    trainer = make_trainer(max_steps=1)
    with caplog.at_level(logging.INFO, "framework"):
        trainer.fit(
            task,
            Data(train=blobs(16), batch_size=8),
            checkpoint=str(tmp_path),
            weights_only=True,
        )
    assert trainer.progress.step == 1
    assert "took 2 of 4 variables" in caplog.text
    assert "not in the checkpoint" in caplog.text
    store = CheckpointStore(tmp_path / "checkpoints")
    taken = list(store.load(store.find("last"))["models"]["model"].values())
    for mine, theirs in zip(task.model.get_weights()[:2], taken, strict=False):
        np.testing.assert_allclose(mine, theirs, atol=1e-20)
    with pytest.raises(UserError, match="no weight of the checkpoint fits"):
        make_trainer(max_steps=1).fit(
            Net(dense), Data(train=blobs(16)), checkpoint=str(tmp_path), weights_only=True
        )
    assert variables_state(task.model.variables)


# ---- the short form of `python -m benchmarks faults`


def test_random_numbers_that_no_checkpoint_holds_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Noise(Net):
        def train_step(self, batch: Any) -> Any:
            x, y = batch
            return super().train_step((x + draw(tf.shape(x)), y))

    def warnings(run_dir: Path | None) -> list[str]:
        caplog.clear()
        make_trainer(max_steps=1, run_dir=run_dir).fit(Noise(), Data(train=blobs(8), batch_size=8))
        return [m for m in caplog.messages if "no checkpoint holds" in m]

    draw: Callable[[Any], Any] = tf.random.normal
    assert "(RandomStandardNormal)" in warnings(tmp_path / "a")[0]
    assert not warnings(None)
    draw = keras.random.normal
    assert not warnings(tmp_path / "b")


def test_killed_runs_end_with_the_unbroken_bits(tmp_path: Path) -> None:
    # In a process of its own: its forks must not inherit a TensorFlow that has begun.
    code = """
import shutil
from benchmarks import faults
from benchmarks.faults.damage import damaged
if __name__ == "__main__":
    directory = faults.make_directory()
    directory.chmod(0o755)
    runs = faults.killed(3, directory, print)
    print("codes", [run.code for run in runs], "kills", sum(run.kills for run in runs))
    print("seed", faults.another_seed(directory))
    print("signals", faults.signalled(2, directory))
    print("damage", *damaged(directory / "whole" / "checkpoints", directory / "aside", flips=20))
    shutil.rmtree(directory)
"""
    (tmp_path / "short.py").write_text(code)
    env = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, tmp_path / "short.py"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert "codes [0, 0, 0]" in done.stdout, done.stdout + done.stderr
    assert "kills 0" not in done.stdout
    assert "seed True" in done.stdout, done.stdout
    assert "signals []" in done.stdout, done.stdout
    assert "damage 112 []" in done.stdout, done.stdout
