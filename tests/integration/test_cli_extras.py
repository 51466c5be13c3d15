"""Schedules and callbacks by name, in whole runs of the command line."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from averaged import closed_form
from cli_project import Run, project, run

__all__ = ["project", "run"]


def test_a_schedule_is_the_optimizers_learning_rate(run: Run, project: Path) -> None:
    words = ["schedule=warmup_cosine", "schedule.warmup=4", "optimizer.learning_rate=3e-3"]
    more = ["callbacks=[learning_rate_monitor]", "trainer.log_every=1st", "trainer.max_epochs=2"]
    code, _, err = run("task=mine", "run_dir=a", *words, *more)
    assert code == 0, err
    head, *rows = [line.split(",") for line in Path("a/metrics.csv").read_text().splitlines()]
    found = [float(row[head.index("train/learning_rate")]) for row in rows if int(row[0]) < 20]
    wanted = closed_form(3e-3, 4, 0.0, 20, np.arange(1, 20))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)

    def rate(*more: str) -> Any:
        code, _, err = run("task=parts", "trainer.fast_dev_run=true", *more)
        assert code == 0, err
        return sys.modules["cliproj.mine"].Parts.seen["optimizer"]()._learning_rate

    decay = rate("schedule=exponential_decay", "schedule.decay_steps=10", "schedule.decay_rate=0.5")
    assert float(decay(20)) == pytest.approx(0.01 / 4)  # the rate is SGD's own
    peak = rate("schedule=warmup_cosine", "schedule.peak=0.7", "schedule.by=epoch")
    assert (peak.peak, peak.by) == (0.7, "epoch")
    steps = rate(
        "schedule=piecewise_constant_decay", "schedule.boundaries=[2]", "schedule.values=[1,0.5]"
    )
    assert [float(steps(t)) for t in (2, 3)] == [1.0, 0.5]
    cosine = rate("schedule=cosine_decay", "schedule.decay_steps=10", "optimizer.learning_rate=0.2")
    assert float(cosine(5)) == pytest.approx(0.1)
    assert isinstance(rate("schedule=none"), keras.Variable)


def test_callbacks_by_name(run: Run, project: Path) -> None:
    chosen = ["callbacks=[ema,swa,reduce_on_plateau]", "callbacks.ema.decay=0.5"]
    chosen += ["callbacks.swa.start=0", "callbacks.reduce_on_plateau.patience=2"]
    found = {}
    for run_dir, words in {"with": chosen, "without": []}.items():
        limits = [f"run_dir={run_dir}", "trainer.max_epochs=2"]
        code, _, err = run("task=mine", *limits, *words)
        assert code == 0, err
        metrics = json.loads(Path(run_dir, "result.json").read_text())["metrics"]
        found[run_dir] = f"test/loss {metrics['test/loss']:.4f}"
        # Another process judges the same average.
        code, out, err = run("task=mine", *limits, *words, "mode=test", "checkpoint=last")
        assert code == 0, err
        assert found[run_dir] in out
    assert found["with"] != found["without"]
