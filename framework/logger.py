"""`Logger`: the interface that receives what a run has to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from framework.core.figure_pixels import figure_pixels


@dataclass(frozen=True)
class Histogram:
    """How often values fall between neighboring edges.

    Example:
        >>> Histogram.of(np.array([0.0, 1.0, 1.0, 2.0]), bins=2).counts
        array([1., 3.])

    Args:
        counts: The number of values in each bin: [bins].
        edges: The limits of the bins, ascending: [bins + 1].
    """

    counts: np.ndarray[Any, Any]
    edges: np.ndarray[Any, Any]

    @classmethod
    def of(cls, values: Any, bins: int = 40) -> Histogram:
        """Count values in bins of equal width; NaN and infinite values are left out."""
        flat = np.asarray(values, np.float64).ravel()
        return cls(*np.histogram(flat[np.isfinite(flat)], bins))


class Logger:
    """A destination for what a run measures and draws, opened on its run directory.

    Override what the destination can show; every method does nothing by default. `fit` calls
    `open`, `log_config`, any of the other `log_…` methods, `mark_durable` whenever a checkpoint
    reached the disk, `log_end` and `close`. `validate` and `test` call `open`, `log_metrics`,
    `log_end` and `close`.

    Metric names start with their stage: `train/loss`, `val/accuracy`, `test/accuracy`, or
    `val/<set>/accuracy` for one of several validation sets. The only x-axis is the step: the number
    of optimizer steps done.

    Example:
        >>> class Print(Logger):
        ...     def log_metrics(self, metrics, step, epoch):
        ...         print(step, dict(metrics))
    """

    def open(self, run_dir: Path, step: int | None) -> None:
        """Start writing below `run_dir`.

        Args:
            run_dir: The run's directory, which exists.
            step: Drop what an earlier run logged after this step. None: keep everything.
        """

    def log_config(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> None:
        """Record what the run was started with, each time that `fit` starts or resumes.

        Args:
            config: The whole resolved configuration, nested, or the trainer's options.
            hparams: What distinguishes this run from others, flat: the overrides and the options
                that matter, such as `seed` and `optimizer.learning_rate`. Values are numbers,
                truth values and texts.
        """

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Record values measured at `step`, in epoch `epoch` (the first is 1)."""

    def log_text(self, name: str, text: str, step: int) -> None:
        """Record a text, such as the resolved configuration."""

    def log_images(self, name: str, images: Any, step: int) -> None:
        """Record images: an array of shape [count, height, width, channels].

        Args:
            name: What they show. A prefix with a slash, as in metric names, sets the stage.
            images: Floats in 0..1, or uint8; 1, 3 or 4 channels.
            step: Optimizer steps done.
        """

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        """Record a matplotlib figure. Default: as an image, by `log_images`.

        Args:
            name: What it shows; see `log_images`.
            figure: A `matplotlib.figure.Figure`, at its own size and resolution.
            step: Optimizer steps done.
        """
        self.log_images(name, figure_pixels(figure)[None], step)

    def log_histograms(self, histograms: Mapping[str, Histogram], step: int) -> None:
        """Record distributions, such as those of weights, by name."""

    def log_graph(self, graph: Callable[[], Any]) -> None:
        """Record the model's graph.

        Args:
            graph: Traces the model and returns its `GraphDef`. Call it only to show the graph.
        """

    def log_artifact(self, path: Path) -> None:
        """Record a file of the run, such as a plot, under its name. It stays where it is."""

    def log_model(self, name: str, model: Any, step: int) -> None:
        """Record a model of the task, at the end of a run that was not cut short.

        Its weights are those that a test after `fit` judges: the last ones, or their average if
        `EMA` or `SWA` evaluates one.

        Args:
            name: `model`, or the name of one of several.
            model: A `keras.Model`, which the logger leaves as it is.
            step: Optimizer steps done.
        """

    def mark_durable(self, step: int) -> None:
        """Note that a checkpoint of `step` is on the disk.

        Whatever happens, the run resumes there or later. A destination that cannot drop what it
        received holds back the values after it, as a resumed run measures those again.
        """

    def forget(self, stage: str) -> None:
        """Drop what an earlier run logged for a stage that will be measured again.

        A test measures the end of a run. If a run was stopped, tested and then resumed, only the
        last test counts.

        Args:
            stage: `test`.
        """

    def log_end(
        self, status: str, metrics: Mapping[str, float], best: Mapping[str, Any] | None
    ) -> None:
        """Record how the stage ended, before `close`.

        Args:
            status: `completed`, `stopped` (on purpose, as by early stopping), `interrupted` (by a
                signal: the same command continues the run) or `failed`.
            metrics: The latest value of every metric by full name.
            best: The best checkpoint: its `step`, `metric` and `value`, if there is one.
        """

    def close(self) -> None:
        """Flush everything and close the files."""


class RunLogs(Protocol):
    """What a callback or a task can log through its run, at the current step, to every logger."""

    def log_metrics(self, metrics: Mapping[str, float]) -> None:
        """Log values, by full name, at the current step."""

    def log_text(self, name: str, text: str) -> None:
        """Log a text."""

    def log_images(self, name: str, images: Any) -> None:
        """Log images: [count, height, width, channels], floats in 0..1 or uint8."""

    def log_figure(self, name: str, figure: Any) -> None:
        """Log a matplotlib figure."""

    def log_histograms(self, histograms: Mapping[str, Histogram]) -> None:
        """Log distributions, such as those of weights, by name."""

    def log_graph(self, graph: Callable[[], Any]) -> None:
        """Log the model's graph, which the function traces if a logger shows it."""

    def log_artifact(self, path: Path) -> None:
        """Log a file of the run directory, for loggers that keep copies."""
