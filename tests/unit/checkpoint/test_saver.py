"""A save that fails is reported, and costs no earlier checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.checkpoint.retention import Retention
from framework.checkpoint.saver import Saver
from framework.checkpoint.store import CheckpointStore


def test_a_save_that_fails_is_reported_and_the_earlier_ones_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = CheckpointStore(tmp_path)
    saver = Saver(store)
    saver.save(1, {"a": np.ones(3)}, Retention(), wait=True)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    saver.save(2, {"a": np.ones(3)}, Retention(), wait=False)
    saver.wait()
    assert "the checkpoint of step 2 could not be saved: No space left on device" in caplog.text
    assert "the last checkpoint is of step 1" in caplog.text
    with pytest.raises(OSError, match="No space"):
        saver.save(3, {"a": np.ones(3)}, Retention(), wait=True)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
