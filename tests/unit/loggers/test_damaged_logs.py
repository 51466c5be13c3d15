"""Logs that are damaged: said, kept aside, and continued with all that can be read."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from framework.loggers.csv import CSVLogger
from framework.loggers.event_records import read_records
from framework.loggers.tensorboard import TensorBoardLogger


def flip(path: Path, place: int, bit: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.write_bytes(content)


def logged(run_dir: Path, rows: int = 20) -> Path:
    logger = CSVLogger()
    logger.open(run_dir, 0)
    for step in range(1, rows + 1):
        logger.log_metrics({"train/loss": step / 3, "val/loss": step / 7}, step, 1)
    logger.close()
    return run_dir / "metrics.csv"


def again(run_dir: Path) -> list[str]:
    logger = CSVLogger()
    logger.open(run_dir, None)
    logger.close()
    return (run_dir / "metrics.csv").read_text().splitlines()


@pytest.mark.parametrize("seed", range(30))
def test_a_flipped_bit_costs_a_row_at_most(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = logged(tmp_path)
    before = path.read_text().splitlines()
    draw = random.Random(seed)
    flip(path, draw.randrange(len(before[0]) + 1, path.stat().st_size), draw.randrange(8))
    damaged = path.read_bytes()
    after = again(tmp_path)
    lost = [line for line in before if line not in after]
    assert len(lost) <= 2, lost  # two where the bit was in the end of a line
    if len(after) < len(before):
        assert "metrics.csv is damaged" in caplog.text
        assert (tmp_path / "damaged-1-metrics.csv").read_bytes() == damaged


def test_a_step_that_jumps_ahead_does_not_take_the_rest_along(tmp_path: Path) -> None:
    path = logged(tmp_path)
    path.write_text(path.read_text().replace("\n5,1,", "\n5000,1,"))
    steps = [line.split(",")[0] for line in again(tmp_path)[1:]]
    assert steps == [str(step) for step in range(1, 21) if step != 5]


@pytest.mark.parametrize("place", [0, 5, 7])
def test_the_names_of_the_first_columns_are_known(tmp_path: Path, place: int) -> None:
    path = logged(tmp_path)
    before = path.read_text()
    flip(path, place)
    assert again(tmp_path)[1:] == before.splitlines()[1:]


def test_random_bytes_are_no_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for seed in range(20):
        noise = random.Random(seed).randbytes(5000)
        (tmp_path / "metrics.csv").write_bytes(noise)
        assert again(tmp_path) == ["step,epoch"]
        assert (tmp_path / f"damaged-{seed + 1}-metrics.csv").read_bytes() == noise
    assert caplog.text.count("is damaged") == 20


def test_a_log_that_was_not_damaged_is_not_kept_aside(tmp_path: Path) -> None:
    path = logged(tmp_path)
    path.write_bytes(path.read_bytes() + b"21,1,0.")  # as a kill leaves it
    assert len(again(tmp_path)) == 22
    assert sorted(os.listdir(tmp_path)) == ["metrics.csv"]


def board(run_dir: Path, step: int | None, values: Any = ()) -> Path:
    logger = TensorBoardLogger()
    logger.open(run_dir, step)
    for at in values:
        logger.log_metrics({"train/loss": at / 3}, at, 1)
    logger.close()
    return next(iter(sorted((run_dir / "train").glob("events.out.tf*"))))


@pytest.mark.parametrize("seed", range(12))
def test_a_flipped_bit_costs_an_event_at_most(
    tmp_path: Path, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = board(tmp_path, 0, range(1, 21))
    before, damaged = read_records(path)
    assert (len(before), damaged) == (22, False)  # the version and the start first
    draw = random.Random(seed)
    flip(path, draw.randrange(path.stat().st_size), draw.randrange(8))
    found, damaged = read_records(path)
    assert damaged
    assert len([record for record in before if record not in found]) == 1
    assert "tfevents" not in str([p.name for p in path.parent.iterdir() if p != path])
    board(tmp_path, None)
    assert "is damaged" in caplog.text
    assert len(list(path.parent.glob("damaged-1-*"))) == 1
    assert read_records(path) == (found, False)


def test_a_torn_end_is_no_damage_and_a_length_is_not_believed(tmp_path: Path) -> None:
    import struct

    from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

    path = board(tmp_path, 0, range(1, 6))
    whole = path.read_bytes()
    for cut in (1, 10, 30):
        path.write_bytes(whole[:-cut])
        assert read_records(path)[1] is False
    huge = struct.pack("<Q", 2**60)
    path.write_bytes(whole + huge + struct.pack("<I", masked_crc32c(huge)) + b"x" * 50)
    assert len(read_records(path)[0]) == 7
    path.write_bytes(random.Random(0).randbytes(200_000))
    assert read_records(path) == ([], True)
