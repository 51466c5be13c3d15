"""Arguments out of range, and callbacks that do not fit their run, are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from averaged import fit, normed, sgd
from helpers import Net, blobs, noisy

from framework import Callback, Data, UserError
from framework.callbacks.checkpoint import Checkpoint
from framework.callbacks.early_stopping import EarlyStopping
from framework.callbacks.ema import EMA
from framework.callbacks.freeze import Freeze
from framework.callbacks.reduce_on_plateau import ReduceOnPlateau
from framework.callbacks.swa import SWA
from framework.schedules import WarmupCosine, bind_schedules


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: EMA(1.0), "decay is 1.0"),
        (lambda: EMA(-0.1), "decay is -0.1"),
        (lambda: EMA("a"), "decay is 'a'"),
        (lambda: SWA(1.0), "start is 1.0"),
        (lambda: SWA(-1), "start is -1"),
        (lambda: SWA(float("nan")), "start is nan"),
        (lambda: SWA(True), "start is True"),
        (lambda: ReduceOnPlateau("loss"), "val/loss or train/loss"),
        (lambda: ReduceOnPlateau(mode="mox"), "Did you mean 'max'"),
        (lambda: ReduceOnPlateau(factor=1.0), "factor is 1.0"),
        (lambda: ReduceOnPlateau(patience=0), "patience is 0"),
        (lambda: ReduceOnPlateau(cooldown=-1), "cooldown is -1"),
        (lambda: ReduceOnPlateau(min_delta=-1.0), "min_delta is -1.0"),
        (lambda: ReduceOnPlateau(min_learning_rate=-1.0), "min_learning_rate is -1.0"),
        (lambda: Freeze(), "layers is ''"),
        (lambda: Freeze([]), "layers is []"),
        (lambda: Freeze("a", until=0), "until is 0"),
        (lambda: Freeze("a", until=1.5), "until is 1.5"),
        (lambda: WarmupCosine(0.0), "peak is 0.0"),
        (lambda: WarmupCosine("a"), "peak is 'a'"),
        (lambda: WarmupCosine(0.1, warmup=1.0), "warmup is 1.0"),
        (lambda: WarmupCosine(0.1, warmup=-1), "warmup is -1"),
        (lambda: WarmupCosine(0.1, end=0.2), "end is 0.2"),
        (lambda: WarmupCosine(0.1, by="steps"), "Did you mean 'step'"),
        (lambda: WarmupCosine(0.1, total=0), "total is 0"),
        (lambda: WarmupCosine(0.1)(0), "does not know how long the run is"),
        (lambda: WarmupCosine(0.1, by="epoch", total=9)(0), "how long an epoch is"),
        (lambda: bind_schedules({"o": sgd(WarmupCosine(0.1))()}, None, 3), "total number of steps"),
        (
            lambda: bind_schedules({"o": sgd(WarmupCosine(1, by="epoch"))()}, 3, None),
            "counts epochs",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(UserError) as error:
        make()
    assert said in str(error.value)
    assert error.value.where
    assert error.value.fix


def stream() -> Any:
    yield blobs(8)


SCHEDULED = {"optimizer": sgd(WarmupCosine(0.1, total=9))}


@pytest.mark.parametrize(
    ("task", "callback", "options", "said"),
    [
        ({}, SWA(0.5), {"max_epochs": None, "max_steps": 3}, "a fraction of max_epochs"),
        ({}, ReduceOnPlateau(optimizer="optimiser"), {}, "Did you mean 'optimizer'"),
        ({}, ReduceOnPlateau("val/lozz"), {}, "Did you mean 'val/loss'"),
        (SCHEDULED, ReduceOnPlateau(), {}, "follows a schedule"),
        ({}, Freeze("dence"), {}, "Did you mean 'dense'"),
        ({}, Freeze("dense", model="modle"), {}, "Did you mean 'model'"),
        ({"build": noisy}, Freeze("dropout"), {}, "nothing to freeze in dropout"),
        (
            {"optimizer": sgd(WarmupCosine(0.1))},
            EMA(),
            {"data": Data(train=stream)},
            "total number",
        ),
    ],
)
def test_what_does_not_fit_the_run_is_refused(
    task: dict[str, Any], callback: Callback, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(UserError) as error:
        fit(Net(**{"build": normed, **task}), callback, **options)
    assert said in str(error.value)


@pytest.mark.parametrize("make", [EarlyStopping, Checkpoint])
@pytest.mark.parametrize("monitor", [3, ["val/loss"]])
def test_a_monitor_is_a_name(make: Any, monitor: Any) -> None:
    with pytest.raises(UserError) as error:
        make(monitor=monitor)
    assert f"monitor is {monitor!r}" in error.value.what


def test_early_stopping_needs_a_monitor_and_takes_numpys_numbers() -> None:
    with pytest.raises(UserError, match="monitor is None"):
        EarlyStopping(monitor=None)
    with pytest.raises(UserError, match=r"min_delta is '0\.1'"):
        EarlyStopping(min_delta="0.1")
    assert EarlyStopping(patience=np.int64(2)).patience == 2
