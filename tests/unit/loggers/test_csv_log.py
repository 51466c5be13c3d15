"""The loggers: what they write is what was logged, however the run before ended."""

from __future__ import annotations

import csv
import json
import math
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import numpy as np
import pytest

from framework.errors import UserError
from framework.loggers.csv import CSVLogger
from framework.loggers.tensorboard import TensorBoardLogger

# --- CSV ------------------------------------------------------------------------------------


def lines(directory: Path) -> list[str]:
    return (directory / "metrics.csv").read_text().splitlines()


def opened(directory: Path, step: int | None = 0) -> CSVLogger:
    logger = CSVLogger()
    logger.open(directory, step)
    return logger


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


def test_tail_shows_whole_rows_of_a_live_run(tmp_path):
    logger = opened(tmp_path)
    logger.log_metrics({"train/loss": 0.5, "val/loss": 0.5}, step=1, epoch=1)
    command = ["tail", "-n", "+1", "-f", str(tmp_path / "metrics.csv")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tail:
        try:
            for step in range(2, 5):
                logger.log_metrics({"train/loss": 1 / step}, step, epoch=1)
                time.sleep(0.05)
                logger.log_metrics({"val/loss": 2 / step}, step, epoch=1)
            shown = [tail.stdout.readline().strip() for _ in range(5)]
        finally:
            tail.kill()
    assert shown == [
        "step,epoch,train/loss,val/loss",
        "1,1,0.5,0.5",
        f"2,1,0.5,{2 / 2!r}",
        f"3,1,{1 / 3!r},{2 / 3!r}",
        f"4,1,0.25,{2 / 4!r}",
    ]


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


# --- TensorBoard ----------------------------------------------------------------------------


def read(directory: Path) -> dict[str, list[tuple[int, float]]]:
    """Return the scalars of one run, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.util import tensor_util

    events = EventAccumulator(str(directory), size_guidance={"tensors": 0})
    events.Reload()
    return {
        tag: [
            (e.step, tensor_util.make_ndarray(e.tensor_proto).item()) for e in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def board(directory: Path, step: int | None = 0) -> TensorBoardLogger:
    logger = TensorBoardLogger()
    logger.open(directory, step)
    return logger


def test_scalars_go_to_the_run_of_their_stage(tmp_path):
    logger = board(tmp_path)
    big = 2**40
    logger.log_metrics({"train/loss": 2.5, "learning_rate": 0.125}, step=50, epoch=1)
    logger.log_metrics({"train/loss": 2.0, "val/clean/accuracy": 0.25}, step=big, epoch=1)
    logger.close()
    logger.close()
    root = tmp_path / "tensorboard"
    assert sorted(path.name for path in root.iterdir()) == ["train", "val"], "no empty test run"
    assert read(root / "train") == {
        "loss": [(50, 2.5), (big, 2.0)],
        "learning_rate": [(50, 0.125)],
    }
    assert read(root / "val") == {"clean/accuracy": [(big, 0.25)]}
    assert all(len(list(run.iterdir())) == 1 for run in root.iterdir())


def test_values_past_float32_do_not_stop_a_run(tmp_path):
    logger = board(tmp_path)
    logger.log_metrics({"train/a": math.nan, "train/b": math.inf, "train/c": 1e300}, 1, 1)
    logger.close()
    values = read(tmp_path / "tensorboard" / "train")
    assert math.isnan(values["a"][0][1])
    assert values["b"] == values["c"] == [(1, math.inf)]


def test_a_text_is_shown_as_it_stands(tmp_path):
    text = "a: [1, 2]\nnote: |\n  ```python\n  *x*\n  ```"
    logger = board(tmp_path)
    logger.log_text("config", text, step=0)
    logger.close()
    ((step, value),) = read(tmp_path / "tensorboard" / "train")["config"]
    assert step == 0
    assert value.decode() == f"````\n{text}\n````"


def test_every_event_is_readable_at_once(tmp_path):
    logger = board(tmp_path)
    for step in (1, 2, 3):
        logger.log_metrics({"train/loss": step / 2}, step, 1)
        seen = read(tmp_path / "tensorboard" / "train")["loss"]
        assert seen == [(s, s / 2) for s in range(1, step + 1)]
    logger.close()


def test_continuing_drops_the_events_past_the_step(tmp_path):
    root = tmp_path / "tensorboard"
    logger = board(tmp_path)
    logger.log_text("config", "a: 1", step=0)
    for step in (50, 100, 150):
        logger.log_metrics({"train/loss": float(step)}, step, 1)
    logger.log_metrics({"val/loss": 150.0}, 150, 1)
    # The first run was killed in the middle of writing an event.
    ((torn),) = (root / "train").iterdir()
    torn.write_bytes(torn.read_bytes() + b"\x40\0\0\0\0\0\0\0\1\2")
    again = board(tmp_path, step=100)
    assert list((root / "val").iterdir()) == [], "all of it was past the step"
    again.log_text("config", "a: 1", step=0)
    again.log_metrics({"train/loss": 100.0}, 100, 1)
    again.log_metrics({"train/loss": 151.0, "val/loss": 151.0}, 150, 1)
    again.close()
    train = read(root / "train")
    assert train["loss"] == [(50, 50.0), (100, 100.0), (150, 151.0)]
    assert len(train["config"]) == 1
    assert read(root / "val") == {"loss": [(150, 151.0)]}
    assert not [path for path in root.rglob("*") if path.suffix == ".tmp"]


def test_opening_to_add_keeps_every_event(tmp_path):
    logger = board(tmp_path)
    logger.log_metrics({"train/loss": 1.0}, 50, 1)
    logger.close()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*tfevents*")}
    more = board(tmp_path, step=None)
    more.log_metrics({"test/loss": 0.5}, 25, 1)
    more.close()
    assert all(path.read_bytes() == content for path, content in before.items())
    assert read(tmp_path / "tensorboard" / "test") == {"loss": [(25, 0.5)]}


def test_a_tensorboard_that_watches_forgets_the_dropped_events(tmp_path):
    # The reader of TensorBoard's own server.
    from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator

    logger = board(tmp_path)
    for step in (50, 100, 150):
        logger.log_metrics({"train/loss": 1.0}, step, 1)
    logger.close()
    watcher = EventAccumulator(str(tmp_path / "tensorboard" / "train"))
    watcher.Reload()
    assert [event.step for event in watcher.Tensors("loss")] == [50, 100, 150]
    again = board(tmp_path, step=100)
    again.log_metrics({"train/loss": 2.0}, 125, 1)
    again.close()
    watcher.Reload()
    assert [event.step for event in watcher.Tensors("loss")] == [50, 100, 125]


def test_logging_scalars_imports_no_tensorflow(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from framework.loggers.tensorboard import TensorBoardLogger\n"
        "from framework.loggers.csv import CSVLogger\n"
        "for logger in (TensorBoardLogger(), CSVLogger()):\n"
        "    logger.open(Path(sys.argv[1]), 0)\n"
        "    logger.log_metrics({'train/loss': 1.0}, 1, 1); logger.log_text('a', 'b', 0)\n"
        "    logger.close()\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=300)
    assert read(tmp_path / "tensorboard" / "train")["loss"] == [(1, 1.0)]


def test_a_real_tensorboard_serves_it(tmp_path):
    logger = board(tmp_path / "a")
    logger.log_text("config", "seed: 0", step=0)
    logger.log_metrics({"train/loss": 2.5, "val/loss": 2.25}, step=50, epoch=1)
    logger.log_metrics({"train/loss": 1.5}, step=100, epoch=1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = shutil.which("tensorboard", path=str(Path(sys.executable).parent)) or "tensorboard"
    options = ["--logdir", str(tmp_path), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [program, *options, "--load_fast", "false", "--reload_interval", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    def get(path: str, **query: str) -> Any:
        url = f"http://127.0.0.1:{port}/data/{path}?{urlencode(query, quote_via=quote)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)

    def wait_for_runs(*expected: str) -> None:
        deadline = time.monotonic() + 600
        found = None
        while time.monotonic() < deadline and server.poll() is None:
            try:
                found = get("runs")
            except (urllib.error.URLError, OSError):
                found = None
            if found is not None and tuple(sorted(found)) == expected:
                return
            time.sleep(0.2)
        assert found == expected

    train, val = "a/tensorboard/train", "a/tensorboard/val"
    try:
        wait_for_runs(train, val)
        tags = get("plugin/scalars/tags")
        assert {run: list(found) for run, found in tags.items()} == {train: ["loss"], val: ["loss"]}
        points = get("plugin/scalars/scalars", run=train, tag="loss")
        assert [point[1:] for point in points] == [[50, 2.5], [100, 1.5]]
        assert get("plugin/text/tags") == {train: ["config"]}
        (text,) = get("plugin/text/text", run=train, tag="config")
        assert "<code>seed: 0\n</code>" in text["text"]
        # The run is still on: what it logs next shows up without a close.
        logger.log_metrics({"test/loss": 0.5}, step=150, epoch=1)
        wait_for_runs("a/tensorboard/test", train, val)
    finally:
        server.terminate()
        server.wait(timeout=120)
        logger.close()
