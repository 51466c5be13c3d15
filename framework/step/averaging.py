"""Averages of weights during training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from framework.compat import layers_within, made_untrainable
from framework.core.models_by_name import models_of
from framework.core.state import State, load_variables, variables_state

if TYPE_CHECKING:
    from framework.devices.replicas import Replicas
    from framework.task import Task


class Average:
    """Average some variables, in separate variables.

    The average is either exponential, updated in the graph after every update of its sources
    (Polyak and Juditsky, 1992), or the plain mean of the values at every call of `add` (Izmailov
    et al., 2018). It starts as a copy of its sources.

    Args:
        sources: What to average: floating-point variables.
        copies: Variables for the averages. Default: new variables.
        decay: Share of the average that an update keeps, from 0 to 1. None: a plain average.
        followed: Sources to copy instead of averaging, such as batch-norm statistics.
        evaluate: Evaluate the model with the averages instead of its weights.
    """

    def __init__(
        self,
        sources: Sequence[keras.Variable],
        *,
        copies: Sequence[keras.Variable] | None = None,
        decay: float | None,
        followed: Iterable[keras.Variable] = (),
        evaluate: bool = False,
    ) -> None:
        self.decay, self.evaluate = decay, evaluate
        self._followed = {id(v) for v in followed}
        self.sources = list(sources)
        self.copies = list(copies) if copies is not None else [_copy_of(v) for v in sources]
        self.count = 0
        self.restart()

    @property
    def ready(self) -> bool:
        """Whether there is an average yet."""
        return self.decay is not None or self.count > 0

    def restart(self) -> None:
        """Reset the average to a copy of the sources."""
        self.count = 0
        for copy, source in zip(self.copies, self.sources, strict=True):
            copy.assign(source)

    def follows(self, updated: set[int]) -> bool:
        """Return whether an update of the variables with these ids affects this average."""
        return self.decay is not None and any(id(v) in updated for v in self.sources)

    def update(self, replicas: Replicas) -> None:
        """Update an exponential average, in the graph."""
        for copy, source in zip(self.copies, self.sources, strict=True):
            keep = 0.0 if id(source) in self._followed else self.decay or 0.0
            replicas.change(copy, lambda c, s, k=keep: c.assign(_mixed(c, s, k)), source)

    def add(self) -> None:
        """Add the current values of the sources to a plain average, on the host."""
        keep = self.count / (self.count + 1)
        self.count += 1
        for copy, source in zip(self.copies, self.sources, strict=True):
            kept = 0.0 if id(source) in self._followed else keep
            # In float64: the mean of many epochs must not drift.
            mean = copy.numpy().astype("f8") * kept + source.numpy().astype("f8") * (1 - kept)
            copy.assign(mean.astype(copy.numpy().dtype))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Assign the averages to their sources within the body, and restore them afterwards."""
        former = [np.asarray(source.numpy()) for source in self.sources]
        try:
            for source, copy in zip(self.sources, self.copies, strict=True):
                source.assign(copy)
            yield
        finally:
            for source, value in zip(self.sources, former, strict=True):
                source.assign(value)

    def state(self) -> State:
        """Return the averages, their number, and whether evaluations use them."""
        used = self.evaluate and self.ready
        return {"count": self.count, "used": used, "copies": variables_state(self.copies)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        self.count = int(state["count"])
        load_variables(self.copies, state["copies"], "average")


def averaged_variables(models: Iterable[keras.Layer]) -> list[keras.Variable]:
    """Return the floating-point variables of models: the weights, then the statistics."""
    models = list(models)
    found = [v for m in models for v in (*m.trainable_variables, *m.non_trainable_variables)]
    kept = {id(v): v for v in found if "float" in str(v.dtype)}
    return list(kept.values())


def weights_and_statistics(task: Task) -> tuple[list[keras.Variable], list[keras.Variable]]:
    """Return all weights of a task, frozen or not, and its models' floating-point statistics."""
    models = models_of(task.model).values()
    # Sorted by how the layer created them, not by `trainable`: freezing a layer must not change
    # what is averaged, or the order of the averages in a checkpoint.
    untrained = {
        id(v) for model in models for layer in layers_within(model) for v in made_untrainable(layer)
    }
    found = {id(v): v for model in models for v in model.variables if "float" in str(v.dtype)}
    own = [v for v in task.runtime.variables.values() if v.trainable]
    weights = [v for key, v in found.items() if key not in untrained]
    return [*weights, *own], [v for key, v in found.items() if key in untrained]


def _copy_of(variable: keras.Variable) -> keras.Variable:
    return keras.Variable(
        np.zeros(variable.shape),
        dtype=variable.dtype,
        trainable=False,
        name=f"{variable.name}_average",
    )


def _mixed(copy: Any, source: Any, keep: float) -> Any:
    return source if keep == 0.0 else copy * keep + source * (1.0 - keep)
