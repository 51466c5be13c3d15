"""Asking whether a run is locked disturbs neither a run that starts nor others that ask."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from framework import UserError
from framework.core.lock import LOCK, RunLock, is_locked


def test_a_lock_is_seen_while_it_is_held(tmp_path: Path) -> None:
    assert not is_locked(tmp_path / LOCK), "there is no file"
    with RunLock(tmp_path):
        assert is_locked(tmp_path / LOCK)
        with pytest.raises(UserError, match="another process"), RunLock(tmp_path):
            pass
    assert not is_locked(tmp_path / LOCK)


def test_two_that_ask_at_once_do_not_take_each_other_for_a_run(tmp_path: Path) -> None:
    with open(tmp_path / LOCK, "w") as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # as another process that asks holds it for a moment
        assert not is_locked(tmp_path / LOCK)


def test_a_run_that_starts_waits_for_one_that_asks(tmp_path: Path) -> None:
    asking = os.open(tmp_path / LOCK, os.O_RDWR | os.O_CREAT)
    fcntl.flock(asking, fcntl.LOCK_SH)

    def stop() -> None:
        time.sleep(0.03)
        os.close(asking)

    thread = threading.Thread(target=stop)
    thread.start()
    with RunLock(tmp_path):
        assert is_locked(tmp_path / LOCK)
    thread.join()
