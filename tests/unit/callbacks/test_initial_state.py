"""Which of several callbacks is which, by what each was made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Counting

from framework.callback import Callback as Base
from framework.callbacks.early_stopping import EarlyStopping
from framework.callbacks.made_with import made_with, restore

X = np.random.default_rng(0).normal(size=(40, 3)).astype("f4")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"a": [1, 2]}, {"a": [2, 1]}),
        ({"a": np.zeros(3)}, {"a": np.zeros(3, "f4")}),
        ({"a": np.zeros(3)}, {"a": np.ones(3)}),
        ({"a": 1}, {"a": True}),
        ({"a": EarlyStopping(patience=2)}, {"a": EarlyStopping(patience=3)}),
        ({"a": len}, {"a": max}),
        ({"a": Path("x")}, {"a": Path("y")}),
        ({"a": {1, 2}}, {"a": {1, 3}}),
        ({"a": b"1"}, {"a": "1"}),
    ],
)
def test_options_that_differ_are_told_apart(left: Any, right: Any) -> None:
    def made(options: Any) -> str:
        callback = Base()
        vars(callback).update(options)
        return made_with(callback).options

    assert made(left) != made(right)
    assert made(left) == made(left)


def test_options_that_refer_to_themselves_come_to_an_end() -> None:
    callback = Counting()
    callback.me, callback.all = callback, [X] * 3  # type: ignore[attr-defined]
    assert made_with(callback).state == {"count": 0}
    callback.count = 3
    restore(callback)
    assert callback.count == 0
