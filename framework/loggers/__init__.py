"""The built-in loggers, one destination per file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framework.core.lazy import lazily

_WHERE = {
    "CSVLogger": "framework.loggers.csv",
    "TensorBoardLogger": "framework.loggers.tensorboard",
}

if TYPE_CHECKING:
    from framework.loggers.csv import CSVLogger as CSVLogger
    from framework.loggers.tensorboard import TensorBoardLogger as TensorBoardLogger

__all__ = [
    "CSVLogger",
    "TensorBoardLogger",
]

__getattr__, __dir__ = lazily(__name__, _WHERE)
