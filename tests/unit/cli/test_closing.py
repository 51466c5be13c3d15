"""The lines at the end of a run, and the quiet import at its start."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from framework.cli.closing import closing_table
from framework.cli.quoting import again
from framework.config import TrainerConfig
from framework.core.progress import Progress
from framework.core.quiet_import import quiet_import


def trainer(metrics: dict[str, float], **changes: Any) -> Any:
    facts = {
        "metrics": metrics,
        "best": None,
        "config": TrainerConfig(max_epochs=3),
        "progress": Progress(epoch=3, step=300, seconds=75.0),
        "steps_per_epoch": 100,
        "result": lambda: {"examples_per_second": 1234.5},
    }
    return SimpleNamespace(**{**facts, **changes})


def test_the_table_has_a_column_per_stage_and_a_row_per_metric_of_each_set() -> None:
    metrics = {
        "train/accuracy": 0.1,
        "train/accuracy_epoch": 0.75,
        "train/loss": 9.0,
        "train/loss_epoch": 1.5,
        "val/clean/loss": 0.5,
        "val/noisy/loss": 12345.0,
        "test/loss": 2.0,
        "test/accuracy": 0.5,
        "learning_rate": 0.1,
    }
    best = {"step": 200, "metric": "val/clean/loss", "value": 0.25}
    assert closing_table(trainer(metrics, best=best)).splitlines() == [
        "",
        "             train         val    test",
        "loss        1.5000              2.0000",
        "accuracy    0.7500              0.5000",
        "clean loss              0.5000",
        "noisy loss          12345.0000",
        "",
        "best  epoch 2, step 200: val clean loss 0.2500",
        "time  1:15, 1,234 examples/s",
    ]


def test_a_best_step_has_no_epoch_where_epochs_differ_in_length() -> None:
    best = {"step": 150, "metric": "val/loss", "value": 0.25}
    changing = TrainerConfig(max_epochs=3, accumulate={0: 1, 2: 4})
    for config, length in ((changing, 100), (TrainerConfig(max_epochs=3), None)):
        text = closing_table(
            trainer({"train/loss": 1.0}, best=best, config=config, steps_per_epoch=length)
        )
        assert "best  step 150: val loss 0.2500" in text
        assert "epoch" not in text
    text = closing_table(trainer({"train/loss": 1.0}, result=lambda: {"examples_per_second": None}))
    assert text.splitlines() == ["", "       train", "loss  1.0000", "", "time  1:15"]


def test_a_narrow_terminal_gets_whole_words() -> None:
    best = {"step": 400, "metric": "val/loss", "value": 1.4783}
    text = closing_table(trainer({"train/loss": 1.0}, best=best), width=39)
    assert "\nbest  epoch 4, step 400: val loss\n      1.4783\n" in text


def test_a_command_is_repeated_with_other_values() -> None:
    words = ["task=mine", "trainer.max_epochs=3", "run_dir=old"]
    command = again(words, **{"run_dir": "r", "trainer.max_epochs": 6})
    assert command == "python -m framework task=mine run_dir=r trainer.max_epochs=6"


def fails() -> None:
    os.write(2, b"libstdc++ is too old\n")
    raise ImportError


def test_an_import_is_quiet_unless_it_fails(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with quiet_import():
        os.write(2, b"oneDNN custom operations are on\n")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "later\n"
    with pytest.raises(ImportError), quiet_import():
        fails()
    assert capfd.readouterr().err == "libstdc++ is too old\n"
    assert os.environ["TF_CPP_MIN_LOG_LEVEL"]
    monkeypatch.setitem(sys.modules, "tensorflow", SimpleNamespace())
    with quiet_import():
        os.write(2, b"by the user\n")
    assert capfd.readouterr().err == "by the user\n"
