"""`loss=` and `metrics=`: the losses and metrics of Keras."""

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from framework import metrics


@dataclass
class LossConfig:
    """A loss without options."""

    _target_: str = "keras.losses.MeanSquaredError"
    reduction: Optional[str] = "sum_over_batch_size"


@dataclass
class CrossentropyConfig(LossConfig):
    """Cross-entropy with one-hot or soft labels."""

    _target_: str = "keras.losses.CategoricalCrossentropy"
    from_logits: bool = False
    label_smoothing: float = 0.0


@dataclass
class SparseCrossentropyConfig(LossConfig):
    """Cross-entropy with class numbers as labels."""

    _target_: str = "keras.losses.SparseCategoricalCrossentropy"
    from_logits: bool = False
    ignore_class: Optional[int] = None


@dataclass
class HuberConfig(LossConfig):
    """Squared near zero, linear far from zero."""

    _target_: str = "keras.losses.Huber"
    delta: float = 1.0


@dataclass
class MetricConfig:
    """A function `(y_true, y_pred)` that returns one value per example."""

    _target_: str
    _partial_: bool = True


@dataclass
class TopKConfig(MetricConfig):
    """Whether the label is among the k most likely classes."""

    _target_: str = "keras.metrics.sparse_top_k_categorical_accuracy"
    k: int = 5


@dataclass
class AucConfig:
    """The area under the curve of two classes, approximated by so many thresholds."""

    _target_: str = "keras.metrics.AUC"
    curve: str = "ROC"  # or PR
    num_thresholds: int = 200


LOSSES: dict[str, Any] = {
    "none": {},
    "sparse_categorical_crossentropy": SparseCrossentropyConfig,
    "categorical_crossentropy": CrossentropyConfig,
    "binary_crossentropy": CrossentropyConfig(_target_="keras.losses.BinaryCrossentropy"),
    "mse": LossConfig,
    "mae": LossConfig(_target_="keras.losses.MeanAbsoluteError"),
    "huber": HuberConfig,
    "kl_divergence": LossConfig(_target_="keras.losses.KLDivergence"),
}

METRICS: dict[str, Any] = {
    **{
        name: MetricConfig(_target_=f"keras.metrics.{function}")
        for name, function in metrics.METRICS.items()
    },
    "top5": TopKConfig,
    "auc": AucConfig,
}
