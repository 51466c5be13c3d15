"""`predictions.npz`: the output of `mode=predict`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.cli.run_dir import writing
from framework.core.safe_files import replacing

_log = logging.getLogger("framework")


def save_predictions(path: Path, predictions: Any) -> None:
    """Write a nest of arrays as one `.npz` file, atomically.

    A single array is saved as `predictions`; the arrays of a nest are named by their place: `mean`,
    `0`, `boxes/1`. Types that NumPy's format does not support, such as bfloat16, become float32.
    """
    import numpy as np

    arrays = {name: _storable(np.asarray(array)) for name, array in _leaves(predictions, "")}
    with writing(path.parent), replacing(path) as file:
        np.savez(file, **arrays)
    _log.info("Predictions: %s", path)


def _storable(array: Any) -> Any:
    if array.dtype.kind == "O":
        return array.astype(bytes)  # strings from TensorFlow
    if array.dtype.kind != "V":
        return array
    return array.astype("float32" if "float" in array.dtype.name else "int64")


def _leaves(node: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(node, Mapping):
        children = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, (tuple, list)):
        children = [(str(i), value) for i, value in enumerate(node)]
    else:
        return [(name or "predictions", node)]
    return [
        leaf for key, value in children for leaf in _leaves(value, f"{name}/{key}" if name else key)
    ]
