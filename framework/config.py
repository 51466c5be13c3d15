"""Every option: its type, its default, its one-line help.

Plain dataclasses that import nothing heavy: they serve the Python API, the command line's schema
and its help text alike.
"""

from __future__ import annotations

import math
import numbers
import re
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any, Optional, Union

from framework.errors import UserError, choice, closest
from framework.every import Every

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16", "float64")
ENGINES = ("auto", "graph", "step_xla", "loop_xla", "eager")
PROFILERS = ("simple", "trace")
STRATEGIES = ("auto", "multi_worker")
RESUMES = ("auto", "must", "never")
RESUME_DATA = ("exact", "restart")


# What others call a precision.
_SAME = {
    **dict.fromkeys(("fp16", "16", "16-mixed", "float16", "half", "f16"), "mixed_float16"),
    **dict.fromkeys(("bf16", "bfloat16", "bf16-mixed"), "mixed_bfloat16"),
    **dict.fromkeys(("fp32", "32", "32-true", "single", "full"), "float32"),
    **dict.fromkeys(("fp64", "64", "64-true", "double"), "float64"),
}
_TIMES = ("max_time", "peers_timeout")
_MOMENTS = (*_TIMES, "val_every", "log_every")
# A whole number counts, a fraction is a share: 1 is one batch, 1.0 is all.
COUNT_OR_FRACTION = (
    "limit_train_batches", "limit_val_batches", "limit_test_batches", "overfit_batches",
)  # fmt: skip
_KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def option(default: Any, help: str) -> Any:
    """Declare a dataclass field with a one-line help text."""
    return field(default=default, metadata={"help": help})


@dataclass(frozen=True)
class TrainerConfig:
    """How to train, whatever the task. The keyword arguments of `Trainer`."""

    # Optional and Union, not `|`: OmegaConf reads these annotations on Python 3.10 too.
    max_epochs: Optional[int] = option(
        None, "Stop after this many epochs; 1 if neither max_steps nor max_time is given."
    )
    max_steps: Optional[int] = option(None, "Stop after this many optimizer steps.")
    max_time: Optional[str] = option(None, "Stop after this long: 30s, 10min, 2h.")
    limit_train_batches: Union[int, float] = option(
        1.0, "Batches of an epoch: a count (10) or a fraction (0.1; 1.0 is all)."
    )
    limit_val_batches: Union[int, float] = option(1.0, "The same for validation; 0 turns it off.")
    limit_test_batches: Union[int, float] = option(1.0, "The same for the test.")
    val_every: Optional[str] = option("1ep", "When to validate: 500st, 1ep, 10min; null: never.")
    log_every: str = option("50st", "When to log training metrics.")
    sanity_val_steps: int = option(0, "Validation batches to try before training.")
    fast_dev_run: Union[bool, int] = option(
        False, "Try everything on 1 batch (or this many); writes no logs and no checkpoints."
    )
    overfit_batches: Union[int, float] = option(
        0, "Train and validate on the same first few batches, unshuffled; 0 is off."
    )
    seed: int = option(0, "Seed of weights, shuffling, dropout and augmentation.")
    deterministic: bool = option(
        False, "Same bits on a GPU, and of sums like a + b + c, too; some models get slower."
    )
    precision: str = option("float32", f"One of {', '.join(PRECISIONS)}.")
    device: str = option("auto", "auto, cpu, gpu, or one by number: gpu:1.")
    engine: str = option(
        "auto",
        "auto (the fastest, measured), graph, step_xla, loop_xla, or eager (for a breakpoint).",
    )
    retune: bool = option(False, "Measure engine=auto anew, whatever an earlier run remembers.")
    devices: Union[int, str] = option(1, "Devices that share each batch: a count, or all.")
    strategy: str = option("auto", "auto (this machine), or multi_worker: one process a machine.")
    peers_timeout: Optional[str] = option(
        "30min", "How long a worker waits for others before the first step; null: for ever."
    )
    # A count or a dict, for which OmegaConf has no type.
    accumulate: Any = option(1, "Batches in one step; {0: 1, 5: 4}: from epoch.")  # noqa: RUF009
    clip_norm: Optional[float] = option(None, "Scale gradients to this global norm at most.")
    clip_value: Optional[float] = option(None, "Clip each element of a gradient to this size.")
    log_grad_norm: bool = option(False, "Log the gradients' global norm, before clipping.")
    stop_on_nan: bool = option(True, "Stop when the training loss is no longer a number.")
    detect_anomaly: bool = option(
        False, "Stop at the first result that is NaN or infinite and name its operation; slow."
    )
    resume: str = option("auto", "Continue the run in run_dir: auto (if any), must, or never.")
    resume_data: str = option(
        "exact", "exact, or restart: data that cannot be put back begin anew when continued."
    )
    profiler: Optional[str] = option(
        None, "simple (where the wall time went) or trace (for TensorBoard's Profile tab)."
    )
    threads: Optional[int] = option(
        None, "CPU threads of TensorFlow; 1 may be faster for tiny networks. null: all cores."
    )
    enable_progress_bar: bool = option(True, "Show progress on the terminal.")
    enable_model_summary: bool = option(True, "Print the model's layers before training.")
    enable_checkpointing: bool = option(True, "Keep the last and the best epoch's checkpoint.")

    def __post_init__(self) -> None:
        for name, kinds in _option_types().items():
            object.__setattr__(self, name, _typed(name, getattr(self, name), kinds))
        for name in ("max_epochs", "max_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                _refuse(name, value, "1 or more, or null")
        for name in COUNT_OR_FRACTION[:3]:
            value = getattr(self, name)
            fraction = isinstance(value, float)
            if not math.isfinite(value) or value < 0 or (fraction and value > 1):
                _refuse(name, value, "a count (10) or a fraction of at most 1.0")
        if not self.limit_train_batches:
            _refuse("limit_train_batches", self.limit_train_batches, "at least one batch")
        overfit = self.overfit_batches
        if (
            not math.isfinite(overfit)
            or overfit < 0
            or (isinstance(overfit, float) and overfit > 1)
        ):
            _refuse("overfit_batches", overfit, "0 (off), a count, or a fraction of at most 1.0")
        if self.sanity_val_steps < 0:
            _refuse("sanity_val_steps", self.sanity_val_steps, "0 or more")
        if int(self.fast_dev_run) < 0:
            _refuse("fast_dev_run", self.fast_dev_run, "true, false, or a number of batches")
        if not 0 <= self.seed < 2**31:
            _refuse("seed", self.seed, "0 up to 2147483647")
        for name in _MOMENTS:
            text = getattr(self, name)
            if text is not None:
                try:
                    every = Every(text)
                except UserError as error:
                    raise UserError(error.what, where=f"trainer.{name}", fix=error.fix) from None
                if name in _TIMES and every.seconds is None:
                    _refuse(name, text, "a time: 30s, 10min, 2h")
        if self.profiler is not None and self.profiler not in PROFILERS:
            _refuse("profiler", self.profiler, f"{' or '.join(PROFILERS)}, or null")
        if self.threads is not None and self.threads < 1:
            _refuse("threads", self.threads, "1 or more, or null for all cores")
        devices: object = self.devices
        if not (devices == "all" or (type(devices) is int and devices >= 1)):
            _refuse("devices", devices, "a count of 1 or more, or all")
        for name in ("clip_norm", "clip_value"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                _refuse(name, value, "a number above 0, or null")
        if self.detect_anomaly and self.precision == "mixed_float16":
            _refuse("detect_anomaly", True, "false with mixed_float16, whose overflows are meant")
        _ = self.accumulate_by_epoch
        for name, choices in (
            ("precision", PRECISIONS),
            ("engine", ENGINES),
            ("strategy", STRATEGIES),
            ("resume", RESUMES),
            ("resume_data", RESUME_DATA),
        ):
            value = getattr(self, name)
            if value not in choices:
                fix = choice(_SAME.get(value, value), choices)
                raise UserError(f"{name} is {value!r}", where=f"trainer.{name}", fix=fix)
        if not re.fullmatch(r"auto|(cpu|gpu)(:\d+)?", self.device):
            _refuse_device(self.device)

    @property
    def accumulate_by_epoch(self) -> dict[int, int]:
        """Batches in an optimizer step by the epoch, from 0, that it holds from."""
        given = self.accumulate
        by_epoch = dict(given) if isinstance(given, Mapping) else {0: given}
        found: dict[int, int] = {}
        for epoch, batches in by_epoch.items():
            number = int(epoch) if str(epoch).isdecimal() else -1
            if number < 0 or type(batches) is not int or batches < 1:
                _refuse("accumulate", given, "a count of 1 or more, or {epoch: count, ...}")
            found[number] = batches
        return {0: 1, **found}

    @property
    def peers_seconds(self) -> float | None:
        """How long to wait for other workers, in seconds. None: for ever."""
        return None if self.peers_timeout is None else Every(self.peers_timeout).seconds

    @property
    def accumulates(self) -> bool:
        """Whether any epoch accumulates."""
        return any(batches > 1 for batches in self.accumulate_by_epoch.values())

    def accumulate_in(self, epoch: int) -> int:
        """Return the batches in an optimizer step of an epoch, counted from 0."""
        by_epoch = self.accumulate_by_epoch
        return by_epoch[max(first for first in by_epoch if first <= epoch)]

    def effective(self) -> TrainerConfig:
        """Return the options with what `fast_dev_run` and the defaults of the ends imply."""
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
        """Return the options with what a task needs.

        Raises:
            UserError: Another engine is asked for.
        """
        if not needs_eager or self.engine == "eager":
            return self
        if self.engine != "auto":
            raise UserError(
                f"the steps of {name} run in Python alone, as its needs_eager says",
                where=f"trainer.engine={self.engine}",
                fix="Leave it out, or give eager.",
            )
        return replace(self, engine="eager")

    @classmethod
    def of(cls, options: dict[str, Any]) -> TrainerConfig:
        """Build it from keyword arguments, naming the nearest option for a mistyped one."""
        known = [f.name for f in fields(cls)]
        for name in options:
            if name not in known:
                raise UserError(
                    f"Trainer has no option {name!r}",
                    where="Trainer(...)",
                    fix=closest(name, known),
                )
        return cls(**options)


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
    """Return the types that each option may have, as its annotation says; none for `Any`."""
    hints = typing.get_type_hints(TrainerConfig)
    return {
        f.name: typing.get_args(hints[f.name]) or (hints[f.name],)
        for f in fields(TrainerConfig)
        if hints[f.name] is not Any
    }


def _typed(name: str, value: Any, kinds: tuple[type, ...]) -> Any:
    """Return a value as one of Python's own types that an option may have, else refuse it."""
    if value is None and type(None) in kinds:
        return None
    if isinstance(value, Every) and str in kinds:
        return value.text
    if isinstance(value, str) and str in kinds:
        return str(value)
    if str(type(value).__name__).startswith("bool"):  # NumPy's too; it is no whole number
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
        fix = choice(_SAME.get(str(value), str(value)), PRECISIONS)
    raise UserError(f"{name} is {value!r}", where=f"trainer.{name}", fix=fix)


def _refuse(name: str, value: object, wanted: str) -> None:
    raise UserError(f"{name} is {value!r}", where=f"trainer.{name}", fix=f"Give {wanted}.")
