"""Every option of the trainer: its type, its default, and its one-line help.

Plain dataclasses with no heavy imports. The Python API, the schema of the command line and its help
text all use them.
"""

from __future__ import annotations

import numbers
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Optional, Union

from framework.errors import UserError, choice, closest
from framework.every import Every
from framework.options.option import check, option, refuse

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "float64")
ENGINES = ("auto", "graph", "step_xla", "loop_xla", "eager")
PROFILERS = ("simple", "trace")
STRATEGIES = ("auto", "multi_worker")
RESUMES = ("auto", "must", "never")
RESUME_DATA = ("exact", "restart")


# Other names for each precision.
_ALIASES = {
    **dict.fromkeys(("fp16", "16", "16-mixed", "float16", "half", "f16"), "mixed_float16"),
    **dict.fromkeys(("bf16", "bfloat16", "bf16-mixed"), "mixed_bfloat16"),
    **dict.fromkeys(("fp32", "32", "32-true", "single", "full"), "float32"),
    **dict.fromkeys(("fp64", "64", "64-true", "double"), "float64"),
}
# What other trainers call an option.
_OTHER_TRAINERS = {
    **dict.fromkeys(("gpus", "num_gpus", "num_devices"), "devices=<count>"),
    **dict.fromkeys(("epochs", "num_epochs"), "max_epochs=<count>"),
    **dict.fromkeys(("gradient_clip_val", "max_grad_norm"), "clip_norm=<norm>"),
    **dict.fromkeys(("lr", "learning_rate"), "it to the optimizer: Task(optimizer=Adam(1e-3))"),
    "accelerator": "device='gpu'",
    "accumulate_grad_batches": "accumulate=<count>",
    "batch_size": "it to the data: Data(batch_size=<rows>)",
    "default_root_dir": "run_dir=<path>",
}
_TIMES = ("max_time", "peers_timeout")
_MOMENTS = (*_TIMES, "val_every", "log_every")
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


_COUNT: dict[str, Any] = {"least": 1, "wanted": "1 or more, or null"}
_SHARE: dict[str, Any] = {"share": True, "wanted": "a count (10) or a fraction of at most 1.0"}
_ABOVE_0: dict[str, Any] = {"above": 0, "wanted": "a number above 0, or null"}


@dataclass(frozen=True)
class TrainerConfig:
    """The training options, independent of the task. The keyword arguments of `Trainer`."""

    # Optional and Union, not `|`: OmegaConf reads these annotations on Python 3.10 too.
    max_epochs: Optional[int] = option(
        None, "Stop after this many epochs; 1 without max_steps and max_time.", **_COUNT
    )
    max_steps: Optional[int] = option(None, "Stop after this many optimizer steps.", **_COUNT)
    max_time: Optional[str] = option(None, "Stop after this long: 30s, 10min, 2h.")
    limit_train_batches: Union[int, float] = option(
        1.0,
        "Batches of an epoch: a count (10) or a fraction (0.1; 1.0: all).",
        identity=True,
        **_SHARE,
    )
    limit_val_batches: Union[int, float] = option(
        1.0, "The same for validation; 0 turns it off.", **_SHARE
    )
    limit_test_batches: Union[int, float] = option(1.0, "The same for the test.", **_SHARE)
    val_every: Optional[str] = option("1ep", "When to validate: 500st, 1ep, 10min; null: never.")
    log_every: str = option("50st", "When to log training metrics.")
    sanity_val_steps: int = option(
        0, "Validation batches to try before training.", least=0, wanted="0 or more"
    )
    fast_dev_run: Union[bool, int] = option(
        False,
        "Try everything on 1 batch (or this many); writes no logs and no checkpoints.",
        least=0,
        wanted="true, false, or a number of batches",
    )
    overfit_batches: Union[int, float] = option(
        0,
        "Train and validate on the first few batches, unshuffled; 0: off.",
        identity=True,
        share=True,
        wanted="0 (off), a count, or a fraction of at most 1.0",
    )
    seed: int = option(
        0,
        "Seed of weights, shuffling, dropout and augmentation.",
        identity=True,
        least=0,
        below=2**31,
        wanted="0 up to 2147483647",
    )
    deterministic: bool = option(
        False,
        "Bit-identical results on a GPU; slower for some models.",
        identity=True,
    )
    precision: str = option(
        "float32",
        f"One of {', '.join(PRECISIONS)}.",
        identity=True,
        choices=PRECISIONS,
        aliases=_ALIASES,
    )
    device: str = option("auto", "auto, cpu, gpu, or one by number: gpu:1.")
    engine: str = option(
        "auto",
        "auto (the fastest, measured), graph, step_xla, loop_xla, or eager (for a breakpoint).",
        choices=ENGINES,
    )
    retune: bool = option(
        False, "Measure engine=auto again, ignoring the results of earlier runs.", local=True
    )
    devices: Union[int, str] = option(1, "Devices that share each batch: a count, or all.")
    strategy: str = option(
        "auto", "auto (this machine), or multi_worker: one process a machine.", choices=STRATEGIES
    )
    peers_timeout: Optional[str] = option(
        "30min",
        "How long a worker waits for others before the first step; null: forever.",
        local=True,
    )
    # A count or a dict, for which OmegaConf has no type.
    accumulate: Any = option(1, "Batches in one step; {0: 1, 5: 4}: from epoch.", identity=True)  # noqa: RUF009
    # A truth value or a dict, for which OmegaConf has no type.
    auto_lr: Any = option(  # noqa: RUF009
        False,
        "Find the learning rate before a new run: true, or options of lr_find, {steps: 200}.",
        identity=True,
    )
    clip_norm: Optional[float] = option(
        None, "Scale gradients to this global norm at most.", identity=True, **_ABOVE_0
    )
    clip_value: Optional[float] = option(
        None, "Clip each element of a gradient to this size.", identity=True, **_ABOVE_0
    )
    log_grad_norm: bool = option(False, "Log the gradients' global norm, before clipping.")
    stop_on_nan: bool = option(True, "Stop when the training loss is NaN or infinite.")
    detect_anomaly: bool = option(
        False, "Stop at the first result that is NaN or infinite and name its operation; slow."
    )
    resume: str = option(
        "auto", "Resume the run in run_dir: auto (if any), must, or never.", choices=RESUMES
    )
    resume_data: str = option(
        "exact",
        "exact, or restart: on resume, data that cannot be restored start again.",
        choices=RESUME_DATA,
    )
    profiler: Optional[str] = option(
        None, "simple (where the wall time went) or trace (for TensorBoard's Profile tab)."
    )
    threads: Optional[int] = option(
        None,
        "CPU threads of TensorFlow; 1 may be faster for tiny networks. null: all cores.",
        local=True,
        least=1,
        wanted="1 or more, or null for all cores",
    )
    enable_progress_bar: bool = option(True, "Show progress on the terminal.", local=True)
    enable_model_summary: bool = option(
        True, "Print the model's layers before training.", local=True
    )
    enable_checkpointing: bool = option(True, "Keep the last and the best epoch's checkpoint.")

    def __post_init__(self) -> None:
        for name, kinds in _option_types().items():
            object.__setattr__(self, name, _typed(name, getattr(self, name), kinds))
        for each in fields(self):
            check(each.name, getattr(self, each.name), each.metadata)
        if not self.limit_train_batches:
            refuse("limit_train_batches", self.limit_train_batches, "at least one batch")
        for name in _MOMENTS:
            _check_moment(name, getattr(self, name))
        if self.profiler is not None and self.profiler not in PROFILERS:
            refuse("profiler", self.profiler, f"{' or '.join(PROFILERS)}, or null")
        devices: object = self.devices
        if not (devices == "all" or (type(devices) is int and devices >= 1)):
            refuse("devices", devices, "a count of 1 or more, or all")
        if self.detect_anomaly and self.precision == "mixed_float16":
            refuse("detect_anomaly", True, "false with mixed_float16, where overflows are expected")
        _ = self.accumulate_by_epoch
        if not isinstance(self.auto_lr, (bool, Mapping)):
            refuse("auto_lr", self.auto_lr, "true, false, or options of lr_find, {steps: 200}")
        if not re.fullmatch(r"auto|(cpu|gpu)(:\d+)?", self.device):
            _refuse_device(self.device)

    @property
    def accumulate_by_epoch(self) -> dict[int, int]:
        """Batches per optimizer step, by the epoch (from 0) at which each value takes effect."""
        given = self.accumulate
        by_epoch = dict(given) if isinstance(given, Mapping) else {0: given}
        found: dict[int, int] = {}
        for epoch, batches in by_epoch.items():
            number = int(epoch) if str(epoch).isdecimal() else -1
            if number < 0 or type(batches) is not int or batches < 1:
                refuse("accumulate", given, "a count of 1 or more, or {epoch: count, ...}")
            found[number] = batches
        return {0: 1, **found}

    @property
    def peers_seconds(self) -> float | None:
        """How long to wait for other workers, in seconds. None: forever."""
        return None if self.peers_timeout is None else Every(self.peers_timeout).seconds

    @property
    def accumulates(self) -> bool:
        """Whether any epoch accumulates."""
        return any(batches > 1 for batches in self.accumulate_by_epoch.values())

    def accumulate_in(self, epoch: int) -> int:
        """Return the batches per optimizer step in an epoch, counted from 0."""
        by_epoch = self.accumulate_by_epoch
        return by_epoch[max(first for first in by_epoch if first <= epoch)]

    def effective(self) -> TrainerConfig:
        """Return the options after applying `fast_dev_run` and the defaults for the limits."""
        batches = int(self.fast_dev_run)
        if batches:
            return replace(
                self,
                max_epochs=1,
                max_steps=batches,
                limit_train_batches=batches,
                limit_val_batches=batches if self.limit_val_batches else 0,
                limit_test_batches=batches,
                enable_checkpointing=False,
                sanity_val_steps=0,
            )
        if self.max_epochs is None and self.max_steps is None and self.max_time is None:
            return replace(self, max_epochs=1)
        return self

    def for_task(self, name: str, *, needs_eager: bool) -> TrainerConfig:
        """Return the options after applying the task's requirements.

        Raises:
            UserError: Another engine was requested.
        """
        if not needs_eager or self.engine == "eager":
            return self
        if self.engine != "auto":
            raise UserError(
                f"the steps of {name} run only in Python, because needs_eager is True",
                where=f"trainer.engine={self.engine}",
                fix="Leave it out, or give eager.",
            )
        return replace(self, engine="eager")

    @classmethod
    def of(cls, options: dict[str, Any]) -> TrainerConfig:
        """Create it from keyword arguments; for an unknown option, suggest the nearest one."""
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                meant = _OTHER_TRAINERS.get(name)
                raise UserError(
                    f"Trainer has no option {name!r}",
                    where="Trainer(...)",
                    fix=f"Give {meant}." if meant else closest(name, known),
                )
        return cls(**options)


def options_with(**known: Any) -> tuple[str, ...]:
    """Return the names of the options with these properties; see `option`.

    Example:
        >>> options_with(share=True)[0]
        'limit_train_batches'
    """
    found = [f for f in fields(TrainerConfig) if known.items() <= f.metadata.items()]
    return tuple(each.name for each in found)


def _check_moment(name: str, text: str | None) -> None:
    if text is None:
        return
    try:
        every = Every(text)
    except UserError as error:
        raise UserError(error.what, where=f"trainer.{name}", fix=error.fix) from None
    if name in _TIMES and every.seconds is None:
        refuse(name, text, "a time: 30s, 10min, 2h")


def _refuse_device(device: str) -> None:
    right = re.fullmatch(r"cuda(:\d+)?", device)
    meant = f"Did you mean 'gpu{right[1] or ''}'? " if right else ""
    raise UserError(
        f"device is {device!r}",
        where="trainer.device",
        fix=f"{meant}Give auto, cpu, gpu, or one by number: gpu:1.",
    )


@lru_cache(maxsize=1)
def _option_types() -> dict[str, tuple[type, ...]]:
    """Return the types that each option accepts, from its annotation; empty for `Any`."""
    hints = typing.get_type_hints(TrainerConfig)
    return {
        f.name: typing.get_args(hints[f.name]) or (hints[f.name],)
        for f in fields(TrainerConfig)
        if hints[f.name] is not Any
    }


def _typed(name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    """Return a value as one of the plain Python types that an option accepts, or refuse it."""
    if value is None and type(None) in kinds:
        return None
    if isinstance(value, Every) and str in kinds:
        return value.text
    if isinstance(value, str) and str in kinds:
        return str(value)
    if str(type(value).__name__).startswith("bool"):  # including NumPy's; not a whole number
        if bool in kinds:
            return bool(value)
    elif isinstance(value, numbers.Integral) and int in kinds:
        return int(value)
    elif isinstance(value, numbers.Real) and float in kinds:
        return float(value)
    wanted = [_KINDS[kind] for kind in kinds if kind in _KINDS]
    if name in _MOMENTS:
        wanted = ["a number and a unit, such as '500st', '1ep' or '10min'"]
    elif int in kinds and float in kinds:
        wanted.remove("a whole number")
    if type(None) in kinds:
        wanted.append("null")
    fix = f"Give {' or '.join(wanted)}."
    if name == "precision":
        fix = choice(str(value), PRECISIONS, _ALIASES)
    raise UserError(f"{name} is {value!r}", where=f"trainer.{name}", fix=fix)
