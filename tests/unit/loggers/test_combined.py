"""What a run passes to its loggers, and when."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Net, busy_data, make_trainer

from framework import Callback, Histogram, Logger, RunView
from framework.core.flat import flat


class Recording(Logger):
    """Writes down every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def open(self, run_dir: Path, step: int | None) -> None:
        self.calls.append(("open", step))

    def log_config(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> None:
        self.calls.append(("config", dict(hparams)))

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        self.calls.append(("metrics", step, set(metrics)))

    def mark_durable(self, step: int) -> None:
        self.calls.append(("durable", step))

    def log_end(self, status: str, metrics: Mapping[str, float], best: Any) -> None:
        self.calls.append(("end", status, "val/loss" in metrics))

    def close(self) -> None:
        self.calls.append(("close",))


def test_a_fit_and_a_test_call_the_logger_in_the_documented_order(tmp_path: Path) -> None:
    logger = Recording()
    trainer = make_trainer(max_epochs=2, run_dir=tmp_path / "a", loggers=[logger], seed=3)
    data = busy_data()
    trainer.fit(Net(), data)
    kinds = [call[0] for call in logger.calls]
    assert kinds[:2] == ["open", "config"]
    assert logger.calls[0] == ("open", 0)
    assert logger.calls[1][1]["seed"] == 3
    assert logger.calls[-2:] == [("end", "completed", True), ("close",)]
    last = trainer.progress.step
    durable = [call[1] for call in logger.calls if call[0] == "durable"]
    assert durable[-1] == last
    assert durable == sorted(set(durable))  # each checkpoint once, in order


def test_nothing_is_durable_without_checkpoints(tmp_path: Path) -> None:
    logger = Recording()
    trainer = make_trainer(
        max_epochs=1, run_dir=tmp_path, loggers=[logger], enable_checkpointing=False
    )
    trainer.fit(Net(), busy_data())
    assert not [call for call in logger.calls if call[0] == "durable"]


def test_options_become_one_level_of_plain_values() -> None:
    nested = {"a": {"b": 1, "c": [1, 2], "d": None}, "e": float("nan"), "f": True, "g": np.int64(3)}
    assert flat(nested) == {"a.b": 1, "a.c": "[1, 2]", "e": "nan", "f": True, "g": 3}


def test_a_histogram_counts_what_is_finite() -> None:
    values = np.array([0.0, 1.0, 1.0, 2.0, np.nan, np.inf])
    histogram = Histogram.of(values, bins=2)
    assert histogram.counts.tolist() == [1, 3]
    assert histogram.edges.tolist() == [0.0, 1.0, 2.0]


def test_what_callbacks_log_with_a_row_is_written_with_it(tmp_path: Path) -> None:
    class Both(Callback):
        def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
            run.log_metrics({"perf/x": 1.0})

    logger = Recording()
    options: dict[str, Any] = {"max_steps": 6, "log_every": "2st", "enable_checkpointing": False}
    trainer = make_trainer(run_dir=tmp_path, loggers=[logger], callbacks=[Both()], **options)
    trainer.fit(Net(), busy_data(val=None))
    rows = [call for call in logger.calls if call[0] == "metrics"]
    assert [step for _, step, _ in rows] == [2, 4, 6]
    for _, _, names in rows:
        assert {"train/loss", "train/learning_rate", "perf/x"} <= names


def test_a_row_is_written_where_a_callback_ends_the_run(tmp_path: Path) -> None:
    class Failing(Callback):
        def on_log(self, run: RunView, metrics: Mapping[str, float]) -> None:
            raise RuntimeError("boom")

    logger = Recording()
    trainer = make_trainer(run_dir=tmp_path, loggers=[logger], callbacks=[Failing()], max_steps=2)
    with pytest.raises(RuntimeError, match="boom"):
        trainer.fit(Net(), busy_data(val=None))
    assert [call[1] for call in logger.calls if call[0] == "metrics"] == [2]
