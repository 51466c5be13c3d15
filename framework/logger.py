"""The logger: where the numbers of a run go."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Logger:
    """A sink for metrics, opened once per run on its run directory.

    Metric names carry their stage: `train/loss`, `val/accuracy`, `test/accuracy`, or
    `val/<set>/accuracy` where there are several validation sets. The step is the number of
    optimizer steps done, and the only x-axis.

    Example:
        >>> class Print(Logger):
        ...     def log_metrics(self, metrics, step, epoch):
        ...         print(step, dict(metrics))
    """

    def open(self, run_dir: Path, step: int | None) -> None:
        """Start writing below `run_dir`.

        Args:
            run_dir: The run's directory; it exists.
            step: Drop what an earlier run logged past this step. None: keep everything.
        """

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Record values measured at `step`, in epoch `epoch` (the first is 1)."""

    def log_text(self, name: str, text: str, step: int) -> None:
        """Record a text, such as the resolved configuration."""

    def log_images(self, name: str, images: Any, step: int) -> None:
        """Record images: an array of shape [count, height, width, channels].

        Args:
            name: What they show; a stage before a slash, as in metric names, tells their run.
            images: Floats in 0..1, or uint8; 1, 3 or 4 channels.
            step: Optimizer steps done.
        """

    def forget(self, stage: str) -> None:
        """Drop what an earlier run has logged of a stage that is about to be measured again.

        A test is of the end of a run; of one that was stopped, tested and continued, only the
        last counts.

        Args:
            stage: `test`.
        """

    def close(self) -> None:
        """Write out everything and let go of the files."""
