"""The callbacks that every run has unless it is told otherwise."""

from __future__ import annotations

from collections.abc import Sequence

from framework.callback import Callback
from framework.callbacks.checkpoint import Checkpoint
from framework.callbacks.model_summary import ModelSummary
from framework.callbacks.nan import StopOnNaN
from framework.callbacks.profiling import Throughput, Trace
from framework.callbacks.progress_bar import ProgressBar
from framework.config import TrainerConfig


def with_defaults(
    given: Sequence[Callback], config: TrainerConfig, *, is_chief: bool = True
) -> list[Callback]:
    """Return a run's callbacks in the order in which they are called.

    First the stop on NaN and the summary, then the given ones, then the progress bar, and the
    checkpoint last, so that it saves what the others have become. A given callback takes the
    place of the built-in one of its class.

    Args:
        given: The task's and the trainer's own callbacks.
        config: Turns the built-in ones on and off.
        is_chief: Of several workers only the chief shows anything.
    """
    first: list[Callback] = []
    last: list[Callback] = []
    if config.stop_on_nan:
        first.append(StopOnNaN())
    if config.enable_model_summary:
        first.append(ModelSummary())
    if config.profiler is not None:
        last.append(Throughput())
    if config.profiler == "trace":
        last.append(Trace())
    if config.enable_progress_bar:
        last.append(ProgressBar())
    if config.enable_checkpointing:
        last.append(Checkpoint())

    def unless_given(callbacks: list[Callback]) -> list[Callback]:
        return [c for c in callbacks if not any(isinstance(g, type(c)) for g in given)]

    middle = [c for c in given if not isinstance(c, Checkpoint)]
    checkpoints = [c for c in given if isinstance(c, Checkpoint)]
    chosen = [*unless_given(first), *middle, *unless_given(last), *checkpoints]
    shown = (ModelSummary, ProgressBar)
    return [c for c in chosen if is_chief or not isinstance(c, shown)]
