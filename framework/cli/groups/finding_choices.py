"""Options of the modes that find things out, and the groups that set options of several groups."""

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Optional

from framework.options.option import option


@dataclass
class LRFindConfig:
    """The range test of `mode=lr_find` and `optimizer.learning_rate=auto`."""

    min: float = option(1e-7, "The first learning rate.")
    max: float = option(10.0, "The last one.")
    steps: int = option(100, "Steps of the test; the rate grows by the same factor at each.")
    optimizer: Optional[str] = option(None, "The optimizer to test, by name; null: the first.")
    metric: Optional[str] = option(None, "The logged value to follow; null: the loss.")


@dataclass
class BatchSizeFindConfig:
    """The trials of `mode=batch_size_find`."""

    by: str = option("memory", "memory (the largest that fits), or throughput (the fastest).")
    max: Optional[int] = option(None, "The largest batch size to try; null: the training rows.")
    steps: int = option(10, "Training steps of each trial.", least=2)
    timeout: str = option("10min", "How long one trial may take.")


DEBUG: dict[str, dict[str, Any]] = {
    "none": {},
    "fast": {"trainer": {"fast_dev_run": True}},
    "overfit": {
        "trainer": {
            "overfit_batches": 1,
            "limit_val_batches": 1.0,
            "max_epochs": 100,
            "val_every": "20ep",
        }
    },
    "nan": {"trainer": {"detect_anomaly": True}},
    "profile": {"trainer": {"profiler": "trace"}},
}
"""`debug=`: what each choice sets."""
