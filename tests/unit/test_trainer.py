"""The Trainer's options out of range, of another type or mistyped are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from helpers import LogRows, Net, blobs, make_trainer

from framework import Data, Trainer, UserError
from framework.run.check_given import check_listeners

DATA = Data(
    train=blobs(40), val=blobs(20, 1), test=blobs(28, 2), batch_size=8, eval_batch_size=8
)  # 5, 3 and 4 batches


@pytest.mark.parametrize("device", ["gpu:7", "cpu:9", "tpu", "auto:1", "cuda:0"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(UserError) as error:
        make_trainer(device=device).fit(Net(), DATA)
    assert device in error.value.what
    assert error.value.where == "trainer.device"
    if device in ("gpu:7", "cpu:9"):
        assert "cpu:0" in str(error.value.fix)


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ({"max_epoch": 3}, "Did you mean 'max_epochs'?"),
        ({"limit_train_batch": 3}, "Did you mean 'limit_train_batches'?"),
        ({"precison": "float32"}, "Did you mean 'precision'?"),
    ],
)
def test_a_mistyped_option_gets_its_closest_match(option: dict[str, Any], hint: str) -> None:
    with pytest.raises(UserError) as error:
        Trainer(**option)
    assert error.value.fix == hint


@pytest.mark.parametrize(
    "option",
    [
        {"max_epochs": 0},
        {"max_steps": -1},
        {"limit_train_batches": 0},
        {"limit_val_batches": 1.5},
        {"limit_test_batches": -3},
        {"limit_val_batches": float("nan")},
        {"overfit_batches": -1},
        {"sanity_val_steps": -1},
        {"fast_dev_run": -1},
        {"seed": -1},
        {"max_time": "5st"},
        {"val_every": "often"},
        {"log_every": "0st"},
        {"precision": "float16"},
        {"engine": "graf"},
    ],
)
def test_a_value_out_of_range_is_refused_by_name(option: dict[str, Any]) -> None:
    with pytest.raises(UserError) as error:
        Trainer(**option)
    assert error.value.where == f"trainer.{next(iter(option))}"


@pytest.mark.parametrize(
    ("option", "fix"),
    [
        ({"max_epochs": "3"}, "a whole number or null"),
        ({"max_epochs": True}, "a whole number or null"),
        ({"max_steps": 2.0}, "a whole number or null"),
        ({"limit_train_batches": "all"}, "a number"),
        ({"limit_val_batches": True}, "a number"),
        ({"seed": None}, "a whole number"),
        ({"deterministic": "yes"}, "true or false"),
        ({"val_every": 5}, "500st"),
        ({"log_every": None}, "500st"),
        ({"clip_norm": "1"}, "a number or null"),
        ({"precision": 32}, "float32, mixed_bfloat16"),
        ({"precision": "bfloat16"}, "'mixed_bfloat16'"),
    ],
)
def test_an_option_of_another_type_is_refused(option: dict[str, Any], fix: str) -> None:
    with pytest.raises(UserError) as error:
        Trainer(**option)
    ((name, value),) = option.items()
    assert error.value.what == f"{name} is {value!r}"
    assert error.value.where == f"trainer.{name}"
    assert fix in str(error.value.fix)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"callbacks": LogRows()}, "not a list"),
        ({"callbacks": [LogRows]}, "holds the class LogRows"),
        ({"callbacks": ["early_stopping"]}, "holds 'early_stopping', which is not a Callback"),
        ({"loggers": "csv"}, "loggers is 'csv', not a list"),
        ({"loggers": [LogRows()]}, "which is not a Logger"),
        ({"run_dir": 3}, "run_dir is 3"),
        ({"run_dir": ""}, "run_dir is empty"),
    ],
)
def test_listeners_of_another_type_are_refused(given: dict[str, Any], message: str) -> None:
    everything = {"callbacks": [], "loggers": (), "run_dir": Path("a"), **given}
    with pytest.raises(UserError, match=re.escape(message)):
        check_listeners(**everything)
