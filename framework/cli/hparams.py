"""The hyperparameters of a run, to compare runs by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.cli.job import Job

_ALWAYS = (
    "seed",
    "data.batch_size",
    "optimizer.learning_rate",
    "trainer.max_epochs",
    "trainer.precision",
)
_NOT_COMPARED = {
    "run_dir", "sweep_dir", "jobs", "objective", "direction", "search", "mode", "checkpoint",
    "debug", "trust", "resume", "verbosity", "lr_find", "batch_size_find", "export",
    "predict",
}  # fmt: skip


def hparams_of(job: Job) -> dict[str, Any]:
    """Return what distinguishes a run: its task, what was overridden, and a few main options.

    An override of a group, such as `optimizer=sgd`, appears with the name of its choice; values
    that come from the environment appear as the reference to it.

    Example:
        >>> hparams_of(job)
        {'task': 'mnist_vae', 'optimizer': 'sgd', 'seed': 1, 'optimizer.learning_rate': 0.1}
    """
    config, found = job.written, {"task": job.task}
    for override in job.overrides:
        key, _, text = override.lstrip("+~").partition("=")
        key = key.partition("@")[0]
        if key.partition(".")[0] in _NOT_COMPARED or key == "task":
            continue
        value = _at(config, key)
        found[key] = text if isinstance(value, (Mapping, list)) or value is None else value
    for key in _ALWAYS:
        value = _at(config, key)
        if value is not None:
            found.setdefault(key, value)
    return found


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(config, Mapping):
            return None
        config = config.get(part)
    return config
