"""The built-in callbacks, one concern per file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from framework.core.lazy import lazily

_WHERE = {
    "Calibration": "framework.callbacks.pictures.calibration",
    "Checkpoint": "framework.callbacks.checkpoint",
    "ConfusionMatrix": "framework.callbacks.pictures.confusion_matrix",
    "DeviceStats": "framework.callbacks.device_stats",
    "EMA": "framework.callbacks.ema",
    "EarlyStopping": "framework.callbacks.early_stopping",
    "FineTuning": "framework.callbacks.finetuning",
    "FirstBatch": "framework.callbacks.pictures.first_batch",
    "Freeze": "framework.callbacks.freeze",
    "Histograms": "framework.callbacks.histograms",
    "KerasCallback": "framework.callbacks.keras.wrapper",
    "LambdaCallback": "framework.callbacks.lambda_callback",
    "LearningRateMonitor": "framework.callbacks.learning_rate",
    "ModelSummary": "framework.callbacks.model_summary",
    "NotebookProgress": "framework.callbacks.notebook",
    "ProgressBar": "framework.callbacks.progress_bar",
    "ReduceOnPlateau": "framework.callbacks.reduce_on_plateau",
    "RocPr": "framework.callbacks.pictures.roc_pr",
    "SWA": "framework.callbacks.swa",
    "StopOnNaN": "framework.callbacks.nan",
    "Throughput": "framework.callbacks.profiling",
    "Timer": "framework.callbacks.timer",
    "Trace": "framework.callbacks.profiling",
    "WeightNorms": "framework.callbacks.weight_norms",
    "WorstMistakes": "framework.callbacks.pictures.worst_mistakes",
}

if TYPE_CHECKING:
    from framework.callbacks.checkpoint import Checkpoint as Checkpoint
    from framework.callbacks.device_stats import DeviceStats as DeviceStats
    from framework.callbacks.early_stopping import EarlyStopping as EarlyStopping
    from framework.callbacks.ema import EMA as EMA
    from framework.callbacks.finetuning import FineTuning as FineTuning
    from framework.callbacks.freeze import Freeze as Freeze
    from framework.callbacks.histograms import Histograms as Histograms
    from framework.callbacks.keras.wrapper import KerasCallback as KerasCallback
    from framework.callbacks.lambda_callback import LambdaCallback as LambdaCallback
    from framework.callbacks.learning_rate import LearningRateMonitor as LearningRateMonitor
    from framework.callbacks.model_summary import ModelSummary as ModelSummary
    from framework.callbacks.nan import StopOnNaN as StopOnNaN
    from framework.callbacks.notebook import NotebookProgress as NotebookProgress
    from framework.callbacks.pictures.calibration import Calibration as Calibration
    from framework.callbacks.pictures.confusion_matrix import ConfusionMatrix as ConfusionMatrix
    from framework.callbacks.pictures.first_batch import FirstBatch as FirstBatch
    from framework.callbacks.pictures.roc_pr import RocPr as RocPr
    from framework.callbacks.pictures.worst_mistakes import WorstMistakes as WorstMistakes
    from framework.callbacks.profiling import Throughput as Throughput
    from framework.callbacks.profiling import Trace as Trace
    from framework.callbacks.progress_bar import ProgressBar as ProgressBar
    from framework.callbacks.reduce_on_plateau import ReduceOnPlateau as ReduceOnPlateau
    from framework.callbacks.swa import SWA as SWA
    from framework.callbacks.timer import Timer as Timer
    from framework.callbacks.weight_norms import WeightNorms as WeightNorms

__all__ = list(_WHERE)

__getattr__, __dir__ = lazily(__name__, _WHERE)
