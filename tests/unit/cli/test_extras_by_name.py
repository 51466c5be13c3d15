"""Schedules and callbacks by name: mistakes, and where the help shows them."""

from __future__ import annotations

import pytest
from cli_project import Run, project, run

__all__ = ["project", "run"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["task=closed", "schedule=warmup_cosine"], "Closed takes no optimizer: schedule="),
        (["task=tuned", "schedule=warmup_cosine"], "does not use self.optimizer: schedule="),
        (["task=mine", "optimizer=none", "schedule=warmup_cosine"], "but no optimizer"),
        (["task=mine", "schedule=warmup_cosin"], "'warmup_cosine'"),
        (["task=mine", "schedule.warmup=3"], "schedule=<warmup_cosine"),
        (["task=mine", "schedule=warmup_cosine", "schedule.warmup=a"], "schedule.warmup"),
        (["task=mine", "schedule=warmup_cosine", "schedule.by=day"], "by is 'day'"),
        (["task=mine", "schedule=warmup_cosine", "optimizer.learning_rate=a"], "is not a number"),
        (["task=mine", "schedule=cosine_decay"], "schedule.decay_steps"),
        (["task=mine", "callbacks=freeze"], "layers is ''"),
        (["task=mine", "callbacks=freeze", "callbacks.freeze.layers=dence"], "'dense'"),
        (["task=mine", "callbacks=swa", "callbacks.swa.start=1.5"], "start is 1.5"),
        (["task=mine", "callbacks=reduce_on_plateau", "schedule=warmup_cosine"], "a schedule"),
    ],
)
def test_a_mistake_on_the_command_line(run: Run, words: list[str], said: str) -> None:
    code, out, err = run(*words)
    assert (code, "Traceback" in out + err) == (2, False)
    assert said in err


def test_help_and_cfg_show_them(run: Run) -> None:
    code, out, _ = run("--help", plain=True)
    assert code == 0
    assert "schedule     none, warmup_cosine, exponential_decay" in out
    assert "early_stopping, ema, swa, reduce_on_plateau, freeze" in out
    code, out, _ = run("--cfg", "job", "task=mine", "schedule=warmup_cosine", plain=True)
    assert code == 0
    assert "peak: null" in out
