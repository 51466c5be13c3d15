"""The built-in loggers, one destination per file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framework.core.lazy import lazily

_WHERE = {
    "CSVLogger": "framework.loggers.csv",
    "MLflowLogger": "framework.loggers.mlflow",
    "TensorBoardLogger": "framework.loggers.tensorboard",
    "WandbLogger": "framework.loggers.wandb",
}

if TYPE_CHECKING:
    from framework.loggers.csv import CSVLogger as CSVLogger
    from framework.loggers.mlflow import MLflowLogger as MLflowLogger
    from framework.loggers.tensorboard import TensorBoardLogger as TensorBoardLogger
    from framework.loggers.wandb import WandbLogger as WandbLogger

__all__ = [
    "CSVLogger",
    "MLflowLogger",
    "TensorBoardLogger",
    "WandbLogger",
]

__getattr__, __dir__ = lazily(__name__, _WHERE)
