"""The models of a task, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras


def models_of(model: Any) -> dict[str, keras.Layer]:
    """Return a task's models and layers by name; a single one is called `model`."""
    return dict(model) if isinstance(model, Mapping) else {"model": model}
