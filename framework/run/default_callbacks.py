"""The callbacks that every run has by default."""

from __future__ import annotations

from collections.abc import Sequence

from framework.callback import Callback
from framework.callbacks.checkpoint import Checkpoint
from framework.callbacks.description import Description
from framework.callbacks.learning_rate import LearningRateMonitor
from framework.callbacks.model_summary import ModelSummary
from framework.callbacks.nan import StopOnNaN
from framework.callbacks.notebook import NotebookProgress, in_notebook
from framework.callbacks.profiling import Throughput, Trace
from framework.callbacks.progress_bar import ProgressBar
from framework.config import TrainerConfig

SHOWN = (ModelSummary, ProgressBar, NotebookProgress, Description)
"""Callbacks that only show something: of several machines, the first alone has them."""


def with_defaults(
    given: Sequence[Callback],
    config: TrainerConfig,
    *,
    is_chief: bool = True,
    logs: bool = True,
) -> list[Callback]:
    """Return a run's callbacks in the order in which they are called.

    The order is: the stop on NaN and the summary, the given callbacks, the description, then the
    checkpoint, so that it saves the final state of the others, and last the progress bar, which has
    none, so that it knows whether the checkpoint is the best. A given callback replaces the
    built-in one of its class. In a notebook, the progress bar is a `NotebookProgress`.
    """
    first: list[Callback] = []
    last: list[Callback] = []
    if config.stop_on_nan:
        first.append(StopOnNaN())
    if config.enable_model_summary:
        first.append(ModelSummary())
    last.append(LearningRateMonitor())
    if logs:  # else nobody would see it
        last.append(Description())
    if config.profiler is not None:
        last.append(Throughput())
    if config.profiler == "trace":
        last.append(Trace())
    if config.enable_checkpointing:
        last.append(Checkpoint())
    if config.enable_progress_bar and not any(isinstance(g, ProgressBar) for g in given):
        last.append(NotebookProgress() if in_notebook() else ProgressBar())

    def unless_given(callbacks: list[Callback]) -> list[Callback]:
        return [c for c in callbacks if not any(isinstance(g, type(c)) for g in given)]

    ends = (Checkpoint, ProgressBar)
    middle = [c for c in given if not isinstance(c, ends)]
    chosen = [*unless_given(first), *middle, *unless_given(last)]
    chosen += [c for c in given if isinstance(c, ends)]
    chosen.sort(key=lambda c: next((n for n, kind in enumerate(ends, 1) if isinstance(c, kind)), 0))
    return [c for c in chosen if is_chief or not isinstance(c, SHOWN)]
