"""Writes TensorBoard event files for the runs train, val and test."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from framework.core.paths import local_path
from framework.core.safe_files import check_directory
from framework.logger import Histogram, Logger
from framework.loggers.event_file import EVENT_FILES, EventFile, drop_later_events
from framework.loggers.png import as_pixels, png
from framework.loggers.run_comparison import SUCCEEDED, chart_layout, session_end, session_start

STAGES = ("train", "val", "test")
_RUN = ""  # the run directory itself, beside the stages


class TensorBoardLogger(Logger):
    """Write what a run shows to event files in `train`, `val` and `test` of the run directory.

    The x-axis is the number of optimizer steps. Train, validation and test share a chart: the mean
    of `train/loss` over an epoch, `val/loss` and `test/loss` are the tag `loss` of the runs
    `train`, `val` and `test`. What training logs between, such as every 50 steps, has the tag
    `steps/loss`. `val/clean/accuracy` becomes `clean/accuracy` of `val`. A name without a stage
    keeps its full name in `train`. Only stages with values have a directory. All is written to the
    file as soon as it is logged, so a running TensorBoard shows it.

    The run directory itself has the hyperparameters, the charts of the Custom Scalars tab and, at
    the end, the status: SUCCESS or FAILURE. A run without an end was killed or interrupted, or is
    running; its status is UNKNOWN. Start TensorBoard on the parent directory to compare runs in
    the HParams tab.

    A resumed run first drops the events after its step, so that no curve has two branches.

    Example:
        >>> logger = TensorBoardLogger()
        >>> logger.open(Path("runs/a"), step=0)
        >>> logger.log_metrics({"train/loss_epoch": 2.5, "val/loss": 2.25}, step=50, epoch=1)
        >>> logger.close()
        >>> sorted(path.name for path in Path("runs/a").iterdir() if path.is_dir())
        ['train', 'val']

    Args:
        dirname: The directory of all these, relative to the run directory.
    """

    def __init__(self, dirname: str = ".") -> None:
        self.dirname = str(local_path(dirname, "TensorBoardLogger(dirname=...)"))
        self._dir: Path | None = None
        self._step: int | None = None
        self._writers: dict[str, EventFile] = {}
        self._last: dict[tuple[str, str], tuple[int, bytes]] = {}
        self._charts: set[str] = set()
        self._started = False

    def open(self, run_dir: Path, step: int | None) -> None:
        """Start or continue the logs in `run_dir`, without the events after `step`.

        Args:
            run_dir: The run directory.
            step: Optimizer steps done so far: 0 for a new run. None: keep every event.
        """
        self.close()
        self._dir, self._step = Path(run_dir) / self.dirname, step
        self._last.clear()
        for folder in (self._dir, *(self._dir / stage for stage in STAGES)):
            check_directory(folder)
        self._charts, self._started = set(), False
        for left in self._dir.glob("*/events.out.kept.*.tmp"):  # of a killed process
            left.unlink()
        for stage in STAGES:
            for path in sorted((self._dir / stage).glob(EVENT_FILES)):
                for event in drop_later_events(path, step):
                    for value in event.summary.value:
                        at = (event.step, value.tensor.SerializeToString())
                        self._last[stage, value.tag] = at

    def log_config(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> None:
        """Start a session of the HParams tab, in place of the one of an earlier start."""
        if self._dir is None:
            raise RuntimeError("TensorBoardLogger is not open")
        for path in self._dir.glob(EVENT_FILES):
            path.unlink()
        self._writer(_RUN).write(session_start(hparams))
        self._started = True

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Write scalars measured at `step`."""
        by_stage: dict[str, dict[str, float]] = {}
        for name, value in metrics.items():
            stage, tag = _scalar_place(name)
            by_stage.setdefault(stage, {})[tag] = value
        self._lay_out({tag for values in by_stage.values() for tag in values})
        if any(name.startswith("train/") for name in metrics):
            by_stage["train"]["epoch"] = epoch
        for stage, values in by_stage.items():
            self._write_scalars(stage, values, step)

    def _write_scalars(self, stage: str, values: Mapping[str, float], step: int) -> None:
        from tensorboard.plugins.scalar import metadata

        with np.errstate(over="ignore"):
            short = {tag: np.float32(value) for tag, value in values.items()}
        about = metadata.create_summary_metadata(display_name=None, description=None)
        self._write(stage, short, step, about)

    def _lay_out(self, tags: set[str]) -> None:
        """Give new tags a chart of the Custom Scalars tab."""
        if self._started and not tags <= self._charts:
            self._charts |= tags
            tag, value, about = chart_layout(self._charts)
            self._write(_RUN, {tag: value}, 0, about)

    def log_text(self, name: str, text: str, step: int) -> None:
        """Write a verbatim text, such as the resolved configuration, in the run `train`."""
        from tensorboard.plugins.text import metadata

        # A fence longer than any in the text keeps TensorBoard from rendering it as Markdown.
        fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`{3,}", text))])
        block = np.array(f"{fence}\n{text}\n{fence}".encode(), dtype=object)
        about = metadata.create_summary_metadata(display_name=None, description=None)
        self._write("train", {name: block}, step, about)

    def log_images(self, name: str, images: Any, step: int) -> None:
        """Write images as PNG, in the run of the stage in `name`.

        Args:
            name: Tag of the images, such as `samples` or `val/reconstructions`.
            images: Array of shape [count, height, width, channels]: uint8, or floats, which are
                clipped to 0..1; 1 (grey), 3 (RGB) or 4 (RGBA) channels.
            step: Optimizer steps done.

        Raises:
            UserError: If `images` is not such an array.
        """
        from tensorboard.plugins.image import metadata

        pixels = as_pixels(name, images)
        _, height, width, _ = pixels.shape
        sizes = [str(width).encode(), str(height).encode()]
        shown = np.array([*sizes, *map(png, pixels)], dtype=object)
        about = metadata.create_summary_metadata(display_name=None, description=None)
        stage, tag = _place(name)
        self._write(stage, {tag: shown}, step, about)

    def log_histograms(self, histograms: Mapping[str, Histogram], step: int) -> None:
        """Write distributions, in the runs of the stages in their names."""
        from tensorboard.plugins.histogram import metadata

        about = metadata.create_summary_metadata(display_name=None, description=None)
        for name, histogram in histograms.items():
            stage, tag = _place(name)
            edges = np.asarray(histogram.edges, np.float64)
            bins = np.stack([edges[:-1], edges[1:], histogram.counts], axis=1)
            self._write(stage, {tag: bins}, step, about)

    def log_graph(self, graph: Callable[[], Any]) -> None:
        """Write the model's graph, once, in the run `train`."""
        from tensorboard.compat.proto import event_pb2

        encoded = graph().SerializeToString()
        self._writer("train").write(event_pb2.Event(wall_time=time.time(), graph_def=encoded))

    def log_end(
        self, status: str, metrics: Mapping[str, float], best: Mapping[str, Any] | None
    ) -> None:
        """End the session of the HParams tab; write the best value as `best/<metric>`."""
        if not self._started:
            return
        if best is not None and status in SUCCEEDED:
            stage, tag = _place(best["metric"])
            self._write_scalars(stage, {f"best/{tag}": best["value"]}, best["step"])
        if status in SUCCEEDED:
            self._writer(_RUN).write(session_end(SUCCEEDED[status]))
        self._started = False

    def forget(self, stage: str) -> None:
        """Remove the run of a stage, such as `val`."""
        if self._dir is None:
            raise RuntimeError("TensorBoardLogger is not open")
        if stage in self._writers:
            self._writers.pop(stage).close()
        for path in (self._dir / stage).glob(EVENT_FILES):
            path.unlink()
        for at in [at for at in self._last if at[0] == stage]:
            del self._last[at]

    def close(self) -> None:
        """Close the event files. It is safe to call this twice."""
        try:
            for writer in self._writers.values():
                writer.close()
        finally:
            self._writers.clear()
            self._dir = None

    def _write(self, stage: str, values: Mapping[str, Any], step: int, metadata: Any) -> None:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.util import tensor_util

        event = event_pb2.Event(wall_time=time.time(), step=step)
        for tag, value in values.items():
            tensor = tensor_util.make_tensor_proto(value)
            at = (step, tensor.SerializeToString())
            # A finished run that is started again measures the same value again.
            if self._last.get((stage, tag)) != at:
                self._last[stage, tag] = at
                event.summary.value.add(tag=tag, tensor=tensor, metadata=metadata)
        if not event.summary.value:
            return
        self._writer(stage).write(event)

    def _writer(self, stage: str) -> EventFile:
        if self._dir is None:
            raise RuntimeError("TensorBoardLogger is not open")
        if stage not in self._writers:
            step = None if stage == _RUN else self._step
            self._writers[stage] = EventFile(self._dir / stage, step)
        return self._writers[stage]


def _place(name: str) -> tuple[str, str]:
    stage, _, tag = name.partition("/")
    return (stage, tag) if stage in STAGES and tag else ("train", name)


def _scalar_place(name: str) -> tuple[str, str]:
    """Return the run and the tag of a metric; what training logs within an epoch stands apart."""
    stage, tag = _place(name)
    if name.startswith("train/"):
        tag = tag.removesuffix("_epoch") if tag.endswith("_epoch") else f"steps/{tag}"
    return stage, tag
