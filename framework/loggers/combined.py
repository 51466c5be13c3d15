"""Passes everything to several loggers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.core.safe_files import NotAFile
from framework.errors import UserError
from framework.logger import Histogram, Logger


class CombinedLogger(Logger):
    """Several loggers as one.

    Example:
        >>> CombinedLogger([CSVLogger(), TensorBoardLogger()]).open(Path("runs/a"), step=0)

    Args:
        loggers: Where everything goes, in this order.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.loggers = list(loggers)

    def open(self, run_dir: Path, step: int | None) -> None:
        """Open each logger; see `Logger.open`.

        Raises:
            UserError: A logger cannot write its file because something else has its name.
        """
        run_dir.mkdir(parents=True, exist_ok=True)
        for logger in self.loggers:
            try:
                logger.open(run_dir, step)
            except (FileExistsError, NotADirectoryError, NotAFile) as error:
                raise UserError(
                    f"{type(logger).__name__} cannot write its log: {error.strerror}",
                    where=str(error.filename),
                    fix="Move the existing file away, or give another run_dir=.",
                ) from error

    def log_config(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> None:
        for logger in self.loggers:
            logger.log_config(config, hparams)

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        for logger in self.loggers:
            logger.log_metrics(metrics, step, epoch)

    def log_text(self, name: str, text: str, step: int) -> None:
        for logger in self.loggers:
            logger.log_text(name, text, step)

    def log_images(self, name: str, images: Any, step: int) -> None:
        for logger in self.loggers:
            logger.log_images(name, images, step)

    def log_figure(self, name: str, figure: Any, step: int) -> None:
        for logger in self.loggers:
            logger.log_figure(name, figure, step)

    def log_histograms(self, histograms: Mapping[str, Histogram], step: int) -> None:
        for logger in self.loggers:
            logger.log_histograms(histograms, step)

    def log_graph(self, graph: Callable[[], Any]) -> None:
        for logger in self.loggers:
            logger.log_graph(graph)

    def log_artifact(self, path: Path) -> None:
        for logger in self.loggers:
            logger.log_artifact(path)

    def log_model(self, name: str, model: Any, step: int) -> None:
        for logger in self.loggers:
            logger.log_model(name, model, step)

    def mark_durable(self, step: int) -> None:
        for logger in self.loggers:
            logger.mark_durable(step)

    def forget(self, stage: str) -> None:
        for logger in self.loggers:
            logger.forget(stage)

    def log_end(
        self, status: str, metrics: Mapping[str, float], best: Mapping[str, Any] | None
    ) -> None:
        for logger in self.loggers:
            logger.log_end(status, metrics, best)

    def close(self) -> None:
        for logger in self.loggers:
            logger.close()
