"""`callbacks=` and `loggers=`: who listens to a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class EarlyStoppingConfig:
    """Stop when a metric has not improved for some time."""

    _target_: str = "framework.callbacks.early_stopping.EarlyStopping"
    monitor: str = "val/loss"
    mode: str = "auto"
    patience: int = 3
    min_delta: float = 0.0
    start_from_epoch: int = 0


@dataclass
class CSVLoggerConfig:
    """metrics.csv: one row for each logged step."""

    _target_: str = "framework.loggers.csv.CSVLogger"
    filename: str = "metrics.csv"


@dataclass
class TensorBoardLoggerConfig:
    """tensorboard/{train,val,test}: scalars and the configuration."""

    _target_: str = "framework.loggers.tensorboard.TensorBoardLogger"
    dirname: str = "tensorboard"


CALLBACKS: dict[str, Any] = {"early_stopping": EarlyStoppingConfig}
LOGGERS: dict[str, Any] = {"csv": CSVLoggerConfig, "tensorboard": TensorBoardLoggerConfig}
