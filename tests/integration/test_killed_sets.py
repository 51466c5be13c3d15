"""Runs on data of every kind that are killed in mid-epoch; the long form is in the benchmarks."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import numpy as np
import pytest

from benchmarks.own_data import killed


@pytest.mark.parametrize("kind", ["workers", "folder"])
def test_a_killed_run_ends_with_the_unbroken_bits(kind: str, tmp_path: Path) -> None:
    last = random.choice([step for step in range(4, killed.STEPS) if step % 6])
    killed.finished(killed.start(kind, tmp_path, tmp_path / "run", last), -signal.SIGKILL)
    assert list((tmp_path / "run" / "checkpoints").glob("step-*")), f"killed after step {last}"
    whole, continued = (killed.run(kind, tmp_path, tmp_path / name, 0) for name in ("new", "run"))
    np.testing.assert_array_equal(whole, continued, err_msg=f"killed after step {last}")
