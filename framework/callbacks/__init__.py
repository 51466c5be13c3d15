"""The built-in callbacks, one concern per file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framework.core.lazy import lazily

_WHERE = {
    "Checkpoint": "framework.callbacks.checkpoint",
    "EMA": "framework.callbacks.ema",
    "EarlyStopping": "framework.callbacks.early_stopping",
    "Freeze": "framework.callbacks.freeze",
    "KerasCallback": "framework.callbacks.keras.wrapper",
    "LearningRateMonitor": "framework.callbacks.learning_rate",
    "ModelSummary": "framework.callbacks.model_summary",
    "ProgressBar": "framework.callbacks.progress_bar",
    "ReduceOnPlateau": "framework.callbacks.reduce_on_plateau",
    "SWA": "framework.callbacks.swa",
    "StopOnNaN": "framework.callbacks.nan",
    "Throughput": "framework.callbacks.profiling",
    "Trace": "framework.callbacks.profiling",
}

if TYPE_CHECKING:
    from framework.callbacks.checkpoint import Checkpoint as Checkpoint
    from framework.callbacks.early_stopping import EarlyStopping as EarlyStopping
    from framework.callbacks.ema import EMA as EMA
    from framework.callbacks.freeze import Freeze as Freeze
    from framework.callbacks.keras.wrapper import KerasCallback as KerasCallback
    from framework.callbacks.learning_rate import LearningRateMonitor as LearningRateMonitor
    from framework.callbacks.model_summary import ModelSummary as ModelSummary
    from framework.callbacks.nan import StopOnNaN as StopOnNaN
    from framework.callbacks.profiling import Throughput as Throughput
    from framework.callbacks.profiling import Trace as Trace
    from framework.callbacks.progress_bar import ProgressBar as ProgressBar
    from framework.callbacks.reduce_on_plateau import ReduceOnPlateau as ReduceOnPlateau
    from framework.callbacks.swa import SWA as SWA

__all__ = list(_WHERE)

__getattr__, __dir__ = lazily(__name__, _WHERE)
