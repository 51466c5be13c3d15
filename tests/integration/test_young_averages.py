"""Averages that are little more than the weights they began with are warned of."""

from __future__ import annotations

import logging
from typing import Any

import keras
import pytest
from helpers import Net, blobs, make_trainer

from framework import Data
from framework.callbacks.ema import EMA
from framework.callbacks.swa import SWA

DATA = Data(train=blobs(40), val=blobs(40), batch_size=8, shuffle=False)


def test_an_average_that_is_still_the_first_weights_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, "framework"):
        make_trainer(max_epochs=2, callbacks=[EMA(0.999)]).fit(Net(optimizer="sgd"), DATA)
        told = [r.getMessage() for r in caplog.records if "EMA" in r.getMessage()]
        assert len(told) == 1
        assert "after 5 steps the average is still 100 %" in told[0]  # 0.999 ** 5 = 0.995
        caplog.clear()
        make_trainer(max_epochs=2, callbacks=[EMA(0.5)]).fit(Net(optimizer="sgd"), DATA)
    assert not [r for r in caplog.records if "EMA" in r.getMessage()]


def test_an_average_of_an_optimizer_or_of_swa_that_is_none_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def young(**options: Any) -> list[str]:
        caplog.clear()
        optimizer = keras.optimizers.SGD(0.05, use_ema=True, **options)
        make_trainer(max_epochs=2).fit(Net(optimizer=optimizer), DATA)
        return [r.getMessage() for r in caplog.records if "use_ema" in r.getMessage()]

    with caplog.at_level(logging.WARNING, "framework"):
        assert "after 10 updates" in (told := young()[0])
        assert "still 91 %" in told  # 0.99 ** 9 = 0.914
        assert not young(ema_momentum=0.5)
        caplog.clear()
        make_trainer(max_steps=3, callbacks=[SWA(0)]).fit(Net(optimizer="sgd"), DATA)
        assert [r for r in caplog.records if "SWA has averaged no weights" in r.getMessage()]
