"""`Logger`: the interface that receives the numbers of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Logger:
    """A destination for metrics, opened once per run on its run directory.

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

    def forget(self, stage: str) -> None:
        """Drop what an earlier run logged for a stage that will be measured again.

        A test measures the end of a run. If a run was stopped, tested and then resumed, only the
        last test counts.

        Args:
            stage: `test`.
        """

    def close(self) -> None:
        """Flush everything and close the files."""
