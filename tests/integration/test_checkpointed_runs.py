"""A run that is stopped anywhere continues with the bits of an unbroken one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import keras
import pytest
from helpers import LogRows, Net, StopAt, blobs, busy_data, dense, differing, make_trainer, noisy
from places import ROOT, SUPPORT

from framework import Callback, Data, Trainer, UserError
from framework.callbacks.checkpoint import Checkpoint
from framework.checkpoint.store import CheckpointStore
from framework.loggers.csv import CSVLogger


class Counter(Callback):
    """A callback with a memory."""

    def __init__(self) -> None:
        self.epochs = 0

    def on_epoch_start(self, trainer: Trainer) -> None:
        if trainer.progress.batch == 0:
            self.epochs += 1

    def state(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state(self, state: Any) -> None:
        self.epochs = state["epochs"]


class Judged(Net):
    """Logs a Keras metric in training."""

    def build_model(self) -> Any:
        self.hits = keras.metrics.SparseCategoricalAccuracy()
        return super().build_model()

    def train_step(self, batch: Any) -> Any:
        self.hits.update_state(batch[1], self.model(batch[0]))
        self.log("hits", self.hits)
        return super().train_step(batch)


def three_epochs(run_dir: Path | None, *callbacks: Callback, **options: Any) -> tuple[Any, ...]:
    """39 steps, with everything on that keeps state."""
    log, counter = LogRows(), Counter()
    task = Judged(noisy, optimizer=lambda: keras.optimizers.Adam(1e-2))
    trainer = make_trainer(
        max_epochs=3,
        log_every="4st",
        run_dir=run_dir,
        callbacks=[log, counter, *callbacks],
        loggers=[CSVLogger()],
        **options,
    )
    trainer.fit(task, busy_data())
    return trainer, log, counter


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, ...]:
    return three_epochs(tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize(
    "precision_steps", [[5], [13], [17, 18], [12, 26, 38]], ids=lambda s: "-".join(map(str, s))
)
def test_a_run_stopped_anywhere_ends_with_the_unbroken_bits(
    precision_steps: list[int], unbroken: tuple[Any, ...], tmp_path: Path
) -> None:
    whole, whole_log, _ = unbroken
    val = {}
    for step in precision_steps:
        trainer, log, _ = three_epochs(tmp_path, StopAt(step))
        assert (trainer.progress.step, trainer.status) == (step, "stopped")
        val |= dict(log.val)
    trainer, log, counter = three_epochs(tmp_path)
    assert trainer.progress.step == 39
    assert trainer.progress.examples == 3 * 103
    assert differing(whole, trainer) == []
    # The row that the last stop fell into, and every later one, epoch means included.
    last = precision_steps[-1]
    expected = [(step, row) for step, row in whole_log.rows if step > last]
    assert [step for step, _ in log.rows] == [step for step, _ in expected]
    for (_, row), (_, wanted) in zip(log.rows, expected, strict=True):
        assert row == pytest.approx(wanted, rel=1e-12)
    assert trainer.metrics == pytest.approx(whole.metrics, rel=1e-12)
    assert val | dict(log.val) == dict(whole_log.val)
    assert counter.epochs == 3


class SignalAt(Callback):
    """A signal comes while the host handles a step: before its log, or during its validation."""

    def __init__(self, step: int, moment: str) -> None:
        self.step, self.moment = step, moment

    def _send(self, trainer: Trainer, moment: str) -> None:
        if (trainer.progress.step, moment) == (self.step, self.moment):
            os.kill(os.getpid(), signal.SIGTERM)

    def on_train_batch_end(self, trainer: Trainer) -> None:
        self._send(trainer, "batch")

    def on_validation_start(self, trainer: Trainer) -> None:
        self._send(trainer, "validation")


@pytest.mark.parametrize("moment", ["batch", "validation"])
def test_a_signal_at_the_end_of_an_epoch_loses_no_validation(
    moment: str, unbroken: tuple[Any, ...], tmp_path: Path
) -> None:
    whole, whole_log, _ = unbroken
    with pytest.raises(SystemExit) as leaving:
        three_epochs(tmp_path, SignalAt(26, moment))
    assert leaving.value.code == 143
    trainer, log, counter = three_epochs(tmp_path)
    assert differing(whole, trainer) == []
    assert trainer.metrics == pytest.approx(whole.metrics, rel=1e-12)
    expected = [step for step, _ in whole_log.val if step >= 26]
    assert [step for step, _ in log.val] == expected
    assert 26 in expected
    assert counter.epochs == 3


def test_a_loss_scale_survives(tmp_path: Path) -> None:
    options = {"precision": "mixed_float16"}
    whole, *_ = three_epochs(None, **options)
    three_epochs(tmp_path, StopAt(20), **options)
    trainer, *_ = three_epochs(tmp_path, **options)
    assert differing(whole, trainer) == []
    assert trainer.state()["loss_scale"]["good_steps"] > 0


def test_a_finished_run_has_nothing_left_to_do(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    trainer, log, _ = three_epochs(tmp_path)
    assert (trainer.progress.step, trainer.status) == (39, "completed")
    assert log.rows == []
    assert "val/loss" in trainer.metrics


def test_checkpoints_are_the_last_and_the_best(tmp_path: Path) -> None:
    task = Net(dense, optimizer=lambda: keras.optimizers.SGD(0.1))
    log = LogRows()
    data = Data(train=blobs(32), val=blobs(8), batch_size=8)
    trainer = make_trainer(
        max_epochs=4, run_dir=tmp_path, callbacks=[Checkpoint("val/loss"), log], seed=1
    )
    trainer.fit(task, data)
    losses = {step: row["val/loss"] for step, row in log.val}
    best = min(losses, key=losses.__getitem__)
    assert trainer.best == {"step": best, "metric": "val/loss", "value": losses[best]}
    assert trainer.checkpoints.steps() == sorted({best, 16})
    weights = task.model.get_weights()
    found = trainer.validate(Net(), data, checkpoint="best")
    assert found["val/loss"] == pytest.approx(losses[best], rel=1e-6)
    other = Net()
    trainer.test(other, Data(test=blobs(8)), checkpoint="last")
    assert all((a == b).all() for a, b in zip(weights, other.model.get_weights(), strict=True))


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    with pytest.raises(UserError, match="variables for the model"):
        make_trainer(run_dir=tmp_path).fit(
            Net(dense, optimizer=lambda: keras.optimizers.Adam(1e-2)), busy_data()
        )


def test_another_number_of_rows_does_not_continue_a_run(tmp_path: Path) -> None:
    def fit(rows: int, **options: Any) -> Trainer:
        trainer = make_trainer(run_dir=tmp_path, max_epochs=2, **options)
        trainer.fit(Net(), Data(train=blobs(rows), batch_size=8))
        return trainer

    fit(80, max_steps=7)
    before = (tmp_path / "result.json").read_text()
    with pytest.raises(UserError, match="started with 80 training rows, but now there are 24"):
        fit(24)
    with pytest.raises(UserError, match=r"limit_train_batches +1.0 +5"):
        fit(80, limit_train_batches=5)
    assert (tmp_path / "result.json").read_text() == before
    assert fit(80).progress.step == 20
    with pytest.raises(UserError, match="started with 80 training rows, but now there are 88"):
        fit(88)
    # Of another run, an epoch's end is a place to begin with other data.
    other = make_trainer(max_epochs=3)
    other.fit(Net(), Data(train=blobs(24), batch_size=8), checkpoint=str(tmp_path))
    assert other.progress.step == 23


def test_a_run_that_is_evaluated_keeps_its_result(tmp_path: Path) -> None:
    three_epochs(tmp_path)
    before = json.loads((tmp_path / "result.json").read_text())
    trainer = make_trainer(run_dir=tmp_path, seed=9)
    found = trainer.test(Judged(noisy), Data(test=blobs(40)), checkpoint="last")
    after = json.loads((tmp_path / "result.json").read_text())
    assert after["metrics"] == before["metrics"] | found
    assert after["data"] == before["data"] | {"test_rows": 40}
    rest = before.keys() - {"metrics", "data", "weights"}
    assert after["weights"]["val"] == before["weights"]["val"]
    assert after["weights"]["test"]["step"] == before["global_step"]
    assert {name: after[name] for name in rest} == {name: before[name] for name in rest}
    three_epochs(tmp_path)  # nothing left to do
    again = json.loads((tmp_path / "result.json").read_text())
    assert again["examples_per_second"] == before["examples_per_second"] > 0


def test_without_validation_the_training_loss_is_judged(tmp_path: Path) -> None:
    trainer = make_trainer(run_dir=tmp_path, val_every=None, max_epochs=2)
    trainer.fit(Net(), busy_data())
    assert trainer.best["metric"] == "train/loss"
    assert trainer.checkpoints.best()["value"] == trainer.best["value"] > 0


def test_without_checkpointing_nothing_is_kept_and_nothing_continued(tmp_path: Path) -> None:
    trainer, *_ = three_epochs(tmp_path, enable_checkpointing=False)
    assert not (tmp_path / "checkpoints").exists()
    assert (tmp_path / "metrics.csv").exists()
    again, *_ = three_epochs(tmp_path, enable_checkpointing=False)
    assert differing(trainer, again) == []


SCRIPT = """
    import sys, time
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from framework import Callback
    from test_checkpointed_runs import three_epochs

    class Slow(Callback):
        def on_train_batch_end(self, trainer):
            print(trainer.progress.step, flush=True)
            time.sleep(0.05)

    three_epochs(Path({run_dir!r}), Slow())
    print("went on", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)],
    ids=["sigterm", "sigint", "sigusr1"],
)
def test_a_signal_leaves_a_checkpoint_that_continues_to_the_same_bits(
    number: int, code: int, unbroken: tuple[Any, ...], tmp_path: Path
) -> None:
    text = textwrap.dedent(SCRIPT).format(tests=str(Path(__file__).parent), run_dir=str(tmp_path))
    script = tmp_path / "script.py"
    script.write_text(text)
    environment = os.environ | {"PYTHONPATH": f"{SUPPORT}:{ROOT}"}
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env=environment,
    ) as process:  # fmt: skip
        try:
            for line in process.stdout:
                if line.strip() == "17":
                    process.send_signal(number)
                    break
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
    assert "went on" not in out
    # Python ends itself by the signal after a KeyboardInterrupt: a shell shows that as 130.
    assert process.returncode in (code, -number if number == signal.SIGINT else code), err
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["status"] == "interrupted"
    stopped = result["global_step"]
    assert 17 <= stopped <= 20
    assert CheckpointStore(tmp_path / "checkpoints").steps()[-1] == stopped
    trainer, *_ = three_epochs(tmp_path)
    assert trainer.progress.step == 39
    assert differing(unbroken[0], trainer) == []
    assert trainer.metrics == pytest.approx(unbroken[0].metrics, rel=1e-12)
    shutil.rmtree(tmp_path / "checkpoints")
