"""Options of `mode=export` and `mode=predict`."""

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from framework.options.option import option

SPLITS = ("train", "val", "test", "predict")


@dataclass
class ExportConfig:
    """The files of `mode=export`."""

    format: Any = option("keras", "keras, saved_model, litert, onnx, or a list.")  # noqa: RUF009
    dir: Optional[str] = option(None, "Where they go; null: export in the run's directory.")


@dataclass
class PredictConfig:
    """What `mode=predict` predicts on, and where the answers go."""

    file: Optional[str] = option(None, "An .npz, .csv or .parquet file, or a folder of images.")
    array: Optional[str] = option(None, "The array of an .npz file with several.")
    split: Optional[str] = option(None, "Or train, val, test or predict of the data.")
    to: Optional[str] = option(None, "A .npz, .csv or .parquet file; null: predictions.npz.")
    resize: bool = option(False, "Stretch images of other sizes instead of refusing them.")
