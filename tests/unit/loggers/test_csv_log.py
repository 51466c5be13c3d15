"""The CSV log holds what was logged, however the run before ended."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from event_files import opened

from framework.errors import UserError
from framework.loggers.csv import CSVLogger


def lines(directory: Path) -> list[str]:
    return (directory / "metrics.csv").read_text().splitlines()


def test_values_of_one_step_share_a_row(tmp_path):
    logger = opened(tmp_path)
    logger.log_metrics({"train/loss": 2.5, "train/accuracy": 0.25}, step=50, epoch=1)
    logger.log_metrics({"train/loss": 2.0}, step=100, epoch=1)
    logger.log_metrics({"val/loss": 1.5}, step=100, epoch=1)
    logger.close()
    logger.close()
    assert lines(tmp_path) == [
        "step,epoch,train/loss,train/accuracy,val/loss",
        "50,1,2.5,0.25,",
        "100,1,2.0,,1.5",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_value_logged_twice_is_the_later_one(tmp_path):
    logger = opened(tmp_path)
    logger.log_metrics({"a": 1.0, "b": 123456.0}, step=1, epoch=1)
    logger.log_metrics({"b": 2.0}, step=1, epoch=1)
    logger.log_metrics({"a": 3.0}, step=2, epoch=1)
    logger.close()
    assert lines(tmp_path) == ["step,epoch,a,b", "1,1,1.0,2.0", "2,1,3.0,"]


def test_a_test_of_an_earlier_checkpoint_joins_that_step(tmp_path):
    logger = opened(tmp_path)
    for step in (10, 20, 30):
        logger.log_metrics({"loss": float(step)}, step, 1)
    logger.log_metrics({"test/loss": 0.5}, step=20, epoch=1)
    logger.log_metrics({"test/loss": 0.25}, step=15, epoch=1)
    logger.log_metrics({"loss": 40.0}, step=40, epoch=2)
    logger.close()
    assert lines(tmp_path) == [
        "step,epoch,loss,test/loss",
        "10,1,10.0,",
        "15,1,,0.25",
        "20,1,20.0,0.5",
        "30,1,30.0,",
        "40,2,40.0,",
    ]


def test_numbers_keep_every_bit(tmp_path):
    values = [0.1, 1 / 3, float(np.float32(0.1)), 1e-300, -0.0, math.nan, math.inf, -math.inf]
    logger = opened(tmp_path)
    for step, value in enumerate(values):
        logger.log_metrics({"x": value}, step, 1)
    logger.log_metrics({"x": np.float32(0.1)}, len(values), 1)
    logger.close()
    cells = [row["x"] for row in csv.DictReader((tmp_path / "metrics.csv").open())]
    assert [np.float64(cell).tobytes() for cell in cells[:5]] == [
        np.float64(value).tobytes() for value in values[:5]
    ]
    assert cells[5:8] == ["nan", "inf", "-inf"]
    assert np.float32(cells[8]) == np.float32(0.1)


def test_every_value_is_in_the_file_at_once_and_is_only_added_to(tmp_path):
    logger = opened(tmp_path)
    names = ["train/loss", "train/accuracy", "val/loss"]
    logger.log_metrics(dict.fromkeys(names, 1.0), step=1, epoch=1)
    seen = (tmp_path / "metrics.csv").read_bytes()
    for step in range(2, 6):
        for name in names:
            logger.log_metrics({name: step / 3}, step, epoch=1)
            now = (tmp_path / "metrics.csv").read_bytes()
            assert now.startswith(seen), "a reader that follows the file would see garbage"
            assert now[len(seen) :].decode().rstrip(",\n").endswith(repr(step / 3))
            seen = now
    # All columns have their value, so the row is whole before the next one begins.
    assert seen.endswith(b"\n")


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_opening_at_a_step_drops_later_rows_and_goes_on(tmp_path, how):
    logger = opened(tmp_path)
    for step in (50, 100, 150):
        logger.log_metrics({"loss": 1 / step}, step, 1)
        logger.log_metrics({"val": float(step)}, step, 1)
    if how == "closed":
        logger.close()
    again = opened(tmp_path, step=100)
    assert len(lines(tmp_path)) == 3
    again.log_metrics({"late": 7.0}, step=100, epoch=1)
    again.log_metrics({"loss": 0.5}, step=150, epoch=2)
    again.close()
    assert lines(tmp_path) == [
        "step,epoch,loss,val,late",
        f"50,1,{1 / 50!r},50.0,",
        f"100,1,{1 / 100!r},100.0,7.0",
        "150,2,0.5,,",
    ]


def test_opening_to_add_keeps_every_row(tmp_path):
    logger = opened(tmp_path)
    logger.log_metrics({"loss": 0.5}, 50, 1)
    logger.close()
    opened(tmp_path, step=None).close()
    assert lines(tmp_path) == ["step,epoch,loss", "50,1,0.5"]


def test_a_file_torn_anywhere_loses_no_whole_value(tmp_path):
    logger = opened(tmp_path)
    rows = {10: {"a": 0.1234, "b": 5.75}, 20: {"a": 2.5, "b": 0.0625}, 30: {"a": 33.5}}
    for step, values in rows.items():
        for name, value in values.items():
            logger.log_metrics({name: value}, step, 1)
    path = tmp_path / "metrics.csv"
    whole = path.read_bytes()
    for cut in range(len(whole) + 1):
        left = whole[:cut]
        path.write_bytes(left)
        opened(tmp_path, step=1000).close()
        # Independently: a value is whole if a comma or a line end follows it.
        expected = []
        for line in left.decode().splitlines(keepends=True)[1:]:
            cells = line.rstrip("\n").split(",")
            if not line.endswith("\n"):
                cells.pop()
            if len(cells) >= 2:
                expected.append([*cells, "", ""][:4])
        assert [line.split(",") for line in lines(tmp_path)[1:]] == expected, cut


@pytest.mark.parametrize("content", [b"", b"step,epo", b"step,epoch\n", b"step,epoch,loss\n"])
def test_an_empty_log_is_begun_anew(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    logger = opened(tmp_path, step=10)
    logger.log_metrics({"loss": 1.0}, 11, 1)
    logger.close()
    assert lines(tmp_path) == ["step,epoch,loss", "11,1,1.0"]


def test_rows_after_damage_are_kept(tmp_path):
    (tmp_path / "metrics.csv").write_bytes(b"step,epoch,a\n1,1,0.5\n\0\0\0\0\n3,1,0.5\n")
    opened(tmp_path, step=10).close()
    assert lines(tmp_path) == ["step,epoch,a", "1,1,0.5", "3,1,0.5"]
    assert b"\0\0\0\0" in (tmp_path / "damaged-1-metrics.csv").read_bytes()


def test_another_file_of_that_name_is_left_alone(tmp_path):
    (tmp_path / "metrics.csv").write_text("name,price\nbread,2\n")
    with pytest.raises(UserError, match="not a log of this framework"):
        opened(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "name,price\nbread,2\n"


def test_a_metric_name_may_hold_a_comma(tmp_path):
    logger = opened(tmp_path)
    logger.log_metrics({'recall,"all"': 0.5}, 1, 1)
    logger.log_metrics({"b": 1.0}, 2, 1)
    logger.close()
    opened(tmp_path, step=2).close()
    rows = list(csv.DictReader((tmp_path / "metrics.csv").open()))
    assert rows[0]['recall,"all"'] == "0.5"
    assert rows[1]["b"] == "1.0"


def test_logging_before_opening_is_an_error():
    with pytest.raises(RuntimeError, match="not open"):
        CSVLogger().log_metrics({"a": 1.0}, 1, 1)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported_as_it_is(tmp_path):
    logger = opened(tmp_path)
    logger.log_metrics({"a": 1.0}, 1, 1)
    logger._file.close()
    logger._file = open("/dev/full", "r+b")  # noqa: SIM115
    with pytest.raises(OSError, match="No space left"):
        logger.log_metrics({"a": 1.0}, 2, 1)
