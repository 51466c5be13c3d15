"""Logs as other processes see them: a live tail, and a real TensorBoard."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from board_server import serving
from event_files import board, noise, opened, read


def test_a_real_tensorboard_shows_them(tmp_path: Path) -> None:
    import tensorflow as tf

    images = noise(2, 6, 5, 3)
    logger = board(tmp_path)
    logger.log_images("val/pairs", images, step=50)
    logger.close()
    with serving(tmp_path) as server:
        tags = server.wait_until(lambda: server.get("plugin/images/tags"))
        assert list(tags) == ["val"]
        assert tags["val"]["pairs"]["samples"] == 2
        for sample, pixels in enumerate(images):
            query = {"run": "val", "tag": "pairs", "sample": sample}
            (entry,) = server.get("plugin/images/images", **query)
            assert entry["step"] == 50
            shown = server.bytes(f"plugin/images/individualImage?{entry['query']}")
            np.testing.assert_array_equal(tf.io.decode_png(shown), pixels)


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
    assert read(tmp_path / "train")["steps/loss"] == [(1, 1.0)]


def test_a_real_tensorboard_serves_it(tmp_path):
    logger = board(tmp_path / "a")
    logger.log_text("config", "seed: 0", step=0)
    logger.log_metrics({"train/loss": 2.5, "val/loss": 2.25}, step=50, epoch=1)
    logger.log_metrics({"train/loss": 1.5}, step=100, epoch=1)
    train, val, test = "a/train", "a/val", "a/test"
    with serving(tmp_path) as server:
        assert server.wait_until(lambda: sorted(server.get("runs")) == [train, val])
        tags = server.get("plugin/scalars/tags")
        assert {run: sorted(found) for run, found in tags.items()} == {
            train: ["epoch", "steps/loss"],
            val: ["loss"],
        }
        points = server.get("plugin/scalars/scalars", run=train, tag="steps/loss")
        assert [point[1:] for point in points] == [[50, 2.5], [100, 1.5]]
        assert server.get("plugin/text/tags") == {train: ["config"]}
        (text,) = server.get("plugin/text/text", run=train, tag="config")
        assert "<code>seed: 0\n</code>" in text["text"]
        # The run is still on: what it logs next shows up without a close.
        logger.log_metrics({"test/loss": 0.5}, step=150, epoch=1)
        assert server.wait_until(lambda: sorted(server.get("runs")) == [test, train, val])
