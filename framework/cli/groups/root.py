"""The root of the configuration, and how it is registered with Hydra."""

# ruff: noqa: UP045 - OmegaConf reads these annotations at run time.

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from framework.cli.groups.data_choices import DATA
from framework.cli.groups.finding_choices import DEBUG, BatchSizeFindConfig, LRFindConfig
from framework.cli.groups.listener_choices import CALLBACKS, LOGGERS
from framework.cli.groups.loss_choices import LOSSES, METRICS
from framework.cli.groups.mutable import mutable
from framework.cli.groups.optimizer_choices import OPTIMIZERS
from framework.cli.groups.schedule_choices import SCHEDULES
from framework.cli.groups.search_choices import SEARCH
from framework.cli.groups.serving_choices import ExportConfig, PredictConfig
from framework.config import TrainerConfig
from framework.options.option import option

ROOT = "framework"
"""The name of the root; a project's own conf/config.yaml does not conflict with it."""

GROUPS: dict[str, dict[str, Any]] = {
    "trainer": {"default": {}},
    "data": DATA,
    "model": {"none": {}},
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "loss": LOSSES,
    "metrics": METRICS,
    "callbacks": CALLBACKS,
    "loggers": LOGGERS,
    "search": SEARCH,
}
"""The groups and their choices, in the order shown by the help."""

LISTS = ("metrics", "callbacks", "loggers")
"""Groups with several choices at once, each in a node with its own name."""

SPANNING: dict[str, dict[str, Any]] = {"experiment": {"none": {}}, "debug": DEBUG}
"""Groups whose choices set options of other groups, and have no node of their own."""

EVALUATING = ("validate", "test", "predict", "export")
MODES = ("fit", *EVALUATING, "lr_find", "batch_size_find", "summary")


TrainerOptions = mutable(TrainerConfig, __name__, "TrainerOptions")


def _defaults() -> list[Any]:
    # The task comes late, so that its defaults list can override the choices of other groups, and
    # then what can override the task.
    return [
        "_self_",
        {"trainer": "default"},
        {"data": "none"},
        {"model": "none"},
        {"optimizer": "adam"},
        {"schedule": "none"},
        {"loss": "none"},
        {"metrics": []},
        {"callbacks": []},
        {"loggers": ["csv", "tensorboard"]},
        {"search": "none"},
        {"task": "???"},
        {"experiment": "none"},
        {"debug": "none"},
        {"override hydra/job_logging": "none"},
        {"override hydra/hydra_logging": "none"},
    ]


def _hydra() -> dict[str, Any]:
    # A run creates its own directory; Hydra's would clutter the working directory.
    return {
        "output_subdir": None,
        "run": {"dir": "."},
        "sweep": {"dir": ".", "subdir": "."},
        "job": {"chdir": False, "name": "keras-task"},
    }


@dataclass
class RunConfig:
    """The complete configuration of a run."""

    defaults: list[Any] = field(default_factory=_defaults)
    hydra: Any = field(default_factory=_hydra)
    mode: str = option(
        "fit", "fit, validate, test, predict, export, lr_find, batch_size_find, summary."
    )
    checkpoint: Optional[str] = option(None, "Start from best, last, or a checkpoint's path.")
    weights_only: bool = option(False, "Take only weights from checkpoint=, where they fit.")
    run_dir: Optional[str] = option(None, "Where the run goes; null: runs/<task>/<time>-<random>.")
    sweep_dir: Optional[str] = option(None, "The same for -m; null: runs/sweep-<time>-<random>.")
    jobs: int = option(1, "How many jobs of -m run at a time.")
    objective: Any = option(None, "The metric that ranks the jobs of -m, or [a,b].")  # noqa: RUF009
    direction: Any = "auto"  # min or max: which value of the objective is best; docs/sweeps.md
    resume: str = option("auto", "Resume the run in run_dir: auto (if any), must, or never.")
    resume_data: str = option("exact", "exact, or restart: accept data that start again.")
    seed: int = option(0, "Seed of weights, shuffling, dropout and augmentation.")
    trust: Any = None  # names that an evaluated run may use; docs/trust.md
    verbosity: int = option(1, "0: only warnings and errors; 2: also the log's debug messages.")
    trainer: TrainerOptions = field(  # type: ignore[valid-type]
        default_factory=lambda: TrainerOptions(
            seed="${seed}", resume="${resume}", resume_data="${resume_data}"
        )
    )
    data: Any = None
    model: Any = None
    optimizer: Any = None
    schedule: Any = None
    loss: Any = None
    metrics: Any = field(default_factory=dict)
    callbacks: Any = field(default_factory=dict)
    loggers: Any = field(default_factory=dict)
    search: Any = None
    task: Any = None
    lr_find: LRFindConfig = field(default_factory=LRFindConfig)
    batch_size_find: BatchSizeFindConfig = field(default_factory=BatchSizeFindConfig)
    export: ExportConfig = field(default_factory=ExportConfig)
    predict: PredictConfig = field(default_factory=PredictConfig)


def register(sweep: Mapping[str, str] | None = None, open_groups: Collection[str] = ()) -> None:
    """Register the root and the groups with Hydra. Repeated calls change nothing else.

    Args:
        sweep: What a sweep varies and what it fixes, by key, as typed. In this form, and not as
            overrides, it applies to each job alone. Hydra also applies overrides to a configuration
            without the swept groups, which lacks the options that only those groups define
            (`task=a,b task.batching=lesson`).
        open_groups: Groups that accept any key, without a type, from the task's file, because that
            file may refer to another choice; see `framework.cli.replaced_choices`.
    """
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    hydra = _hydra()
    if sweep is not None:
        # Resolved three times on its way to the jobs, which must receive the reference itself.
        escaped = {key: value.replace("${", "\\" * 7 + "${") for key, value in sweep.items()}
        hydra["sweeper"] = {"params": escaped}
    store = ConfigStore.instance()
    store.store(name=ROOT, node=RunConfig(hydra=hydra))
    for group, choices in GROUPS.items():
        for name, node in choices.items():
            package = f"{group}.{name}" if group in LISTS else group
            if group in open_groups:
                node = OmegaConf.to_container(OmegaConf.structured(node))
            store.store(group=group, name=name, node=node, package=package)
    for group, choices in SPANNING.items():
        for name, node in choices.items():
            store.store(group=group, name=name, node=node, package="_global_")
