"""Names can be imported from where they were before the first release."""

from __future__ import annotations


def test_names_are_found_at_their_earlier_places() -> None:
    from framework.callbacks.base import Callback as EarlierCallback
    from framework.data.source import Data as EarlierData
    from framework.data.source import limited
    from framework.engine.every import Every as EarlierEvery
    from framework.loggers.base import Logger as EarlierLogger

    from framework import Callback, Data, Every, Logger

    assert (EarlierCallback, EarlierData, EarlierEvery, EarlierLogger) == (
        Callback,
        Data,
        Every,
        Logger,
    )
    assert limited(100, 0.07) == 7


def test_variables_are_found_by_their_earlier_name() -> None:
    from framework import Task

    assert Task.state is Task.variable
