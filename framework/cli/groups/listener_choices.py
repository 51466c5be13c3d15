"""`callbacks=` and `loggers=`: the callbacks and loggers of a run."""

# ruff: noqa: UP007, UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional, Union


@dataclass
class EarlyStoppingConfig:
    """Stop when a metric has not improved for some time."""

    _target_: str = "framework.callbacks.early_stopping.EarlyStopping"
    monitor: str = "val/loss"
    mode: str = "auto"
    patience: int = 3
    min_delta: float = 0.0
    start_from_epoch: int = 0
    stopping_threshold: Optional[float] = None
    divergence_threshold: Optional[float] = None


@dataclass
class CheckpointConfig:
    """When checkpoints are saved, which is best, and how many are kept."""

    _target_: str = "framework.callbacks.checkpoint.Checkpoint"
    monitor: Optional[str] = None
    mode: str = "auto"
    save_every: Optional[str] = "1ep"
    keep_last: int = 1
    keep_best: int = 1
    keep_every: Optional[str] = None


@dataclass
class EMAConfig:
    """An exponential moving average of the weights, evaluated in their place."""

    _target_: str = "framework.callbacks.ema.EMA"
    decay: float = 0.999
    batch_stats: bool = True
    evaluate: bool = True


@dataclass
class SWAConfig:
    """The mean of the weights of the last epochs, evaluated in their place."""

    _target_: str = "framework.callbacks.swa.SWA"
    start: Union[int, float] = 0.75
    batch_stats: bool = True


@dataclass
class ReduceOnPlateauConfig:
    """Lower the learning rate when a metric has not improved for some time."""

    _target_: str = "framework.callbacks.reduce_on_plateau.ReduceOnPlateau"
    monitor: str = "val/loss"
    mode: str = "auto"
    factor: float = 0.1
    patience: int = 10
    min_delta: float = 1e-4
    cooldown: int = 0
    min_learning_rate: float = 0.0
    optimizer: Optional[str] = None


@dataclass
class FreezeConfig:
    """Freeze layers for the first epochs, or forever."""

    _target_: str = "framework.callbacks.freeze.Freeze"
    layers: Any = ""  # a name or a list of them
    until: Optional[int] = None
    model: Optional[str] = None


@dataclass
class FineTuningConfig:
    """Unfreeze part by part, each with a learning rate of its own and a ramp."""

    _target_: str = "framework.callbacks.finetuning.FineTuning"
    parts: Any = None  # a list of {layers, epoch, rate, ramp}


@dataclass
class LearningRateMonitorConfig:
    """Log the learning rate with the training metrics, as every run does."""

    _target_: str = "framework.callbacks.learning_rate.LearningRateMonitor"


@dataclass
class FirstBatchConfig:
    """Draw the first training batch as the network sees it."""

    _target_: str = "framework.callbacks.pictures.first_batch.FirstBatch"
    count: int = 32
    images: Any = None
    labels: Any = None


@dataclass
class ConfusionMatrixConfig:
    """Draw which classes are taken for which others."""

    _target_: str = "framework.callbacks.pictures.confusion_matrix.ConfusionMatrix"
    every: Optional[str] = None
    labels: Any = None
    probabilities: Any = None


@dataclass
class WorstMistakesConfig:
    """Draw the images that are misjudged with the highest confidence."""

    _target_: str = "framework.callbacks.pictures.worst_mistakes.WorstMistakes"
    count: int = 18
    images: Any = None
    every: Optional[str] = None
    labels: Any = None
    probabilities: Any = None


@dataclass
class RocPrConfig:
    """Draw ROC and precision-recall curves."""

    _target_: str = "framework.callbacks.pictures.roc_pr.RocPr"
    every: Optional[str] = None
    labels: Any = None
    probabilities: Any = None


@dataclass
class CalibrationConfig:
    """Draw how often predictions are right, by their confidence."""

    _target_: str = "framework.callbacks.pictures.calibration.Calibration"
    bins: int = 15
    every: Optional[str] = None
    labels: Any = None
    probabilities: Any = None


@dataclass
class WeightNormsConfig:
    """Log the norms of the weights."""

    _target_: str = "framework.callbacks.weight_norms.WeightNorms"
    every: str = "1ep"
    per_layer: bool = False


@dataclass
class HistogramsConfig:
    """Log histograms of weights and gradients."""

    _target_: str = "framework.callbacks.histograms.Histograms"
    every: str = "1ep"
    bins: int = 40
    gradients: bool = True


@dataclass
class DeviceStatsConfig:
    """Log the use of CPU, memory and GPUs."""

    _target_: str = "framework.callbacks.device_stats.DeviceStats"


@dataclass
class TimerConfig:
    """Log the seconds of epochs, and stop after a total time."""

    _target_: str = "framework.callbacks.timer.Timer"
    duration: Optional[str] = None
    at: str = "epoch"


@dataclass
class LambdaConfig:
    """Functions as hooks: '+callbacks.lambda.on_log={_target_: mine.say, _partial_: true}'."""

    _target_: str = "framework.callbacks.lambda_callback.LambdaCallback"
    every: Optional[str] = None


@dataclass
class CSVLoggerConfig:
    """metrics.csv: one row for each logged step."""

    _target_: str = "framework.loggers.csv.CSVLogger"
    filename: str = "metrics.csv"


@dataclass
class TensorBoardLoggerConfig:
    """{train,val,test}/events…: scalars, images, texts and hyperparameters."""

    _target_: str = "framework.loggers.tensorboard.TensorBoardLogger"
    dirname: str = "."


@dataclass
class MLflowLoggerConfig:
    """A run on an MLflow server: parameters, metrics, artifacts, the model."""

    _target_: str = "framework.loggers.mlflow.MLflowLogger"
    tracking_uri: Optional[str] = None
    experiment: str = "Default"
    run_name: Optional[str] = None
    log_model: bool = True
    timeout: float = 10.0


@dataclass
class WandbLoggerConfig:
    """A run of Weights & Biases, offline unless there is an API key."""

    _target_: str = "framework.loggers.wandb.WandbLogger"
    project: str = "keras-task-framework"
    entity: Optional[str] = None
    run_name: Optional[str] = None
    mode: Optional[str] = None
    timeout: float = 10.0


CALLBACKS: dict[str, Any] = {
    "checkpoint": CheckpointConfig,
    "early_stopping": EarlyStoppingConfig,
    "ema": EMAConfig,
    "swa": SWAConfig,
    "reduce_on_plateau": ReduceOnPlateauConfig,
    "freeze": FreezeConfig,
    "finetuning": FineTuningConfig,
    "learning_rate_monitor": LearningRateMonitorConfig,
    "first_batch": FirstBatchConfig,
    "confusion_matrix": ConfusionMatrixConfig,
    "worst_mistakes": WorstMistakesConfig,
    "roc_pr": RocPrConfig,
    "calibration": CalibrationConfig,
    "weight_norms": WeightNormsConfig,
    "histograms": HistogramsConfig,
    "device_stats": DeviceStatsConfig,
    "timer": TimerConfig,
    "lambda": LambdaConfig,
}
LOGGERS: dict[str, Any] = {
    "csv": CSVLoggerConfig,
    "tensorboard": TensorBoardLoggerConfig,
    "mlflow": MLflowLoggerConfig,
    "wandb": WandbLoggerConfig,
}
