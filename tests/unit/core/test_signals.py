"""Signals that end a run."""

from __future__ import annotations

import os
import signal

import pytest

from framework.core.signals import Signals, ending_signals


def test_a_closed_terminal_ends_a_run_as_sigterm_does_unless_it_is_ignored() -> None:
    former = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        signals = Signals()
        with signals.noted(), signals.deferred():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signals.received == signal.SIGHUP
        with pytest.raises(SystemExit) as left:
            signals.raise_received()
        assert left.value.code == 129
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        assert signal.SIGHUP not in ending_signals()
        with signals.noted():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)
