"""Finds layers by name, and freezes them for a while."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import keras

from framework.callbacks.shapes import layers_of
from framework.compat import layers_below, layers_within, made_trainable
from framework.core.models_by_name import models_of
from framework.errors import UserError, choice, closest


class FrozenLayers:
    """Layers that can be frozen, and released to what they were before.

    Example:
        >>> frozen = FrozenLayers([model.get_layer("conv1")])
        >>> frozen.freeze()
        >>> frozen.release()

    Args:
        layers: The layers.

    Attributes:
        weights: Their trainable weights.
    """

    def __init__(self, layers: Sequence[Any]) -> None:
        self._layers = layers
        self._former: list[tuple[Any, bool]] = []
        found = [v for layer in layers for v in layer.trainable_variables]
        self.weights = list({id(v): v for v in found}.values())

    @property
    def frozen(self) -> bool:
        """Whether they are frozen now."""
        return bool(self._former)

    def set(self, frozen: bool) -> bool:
        """Freeze or release them; return whether that changed anything."""
        changes = frozen != self.frozen
        if changes:
            self.freeze() if frozen else self.release()
        return changes

    def freeze(self) -> None:
        """Freeze them, and remember what was trainable."""
        # For every inner layer and every weight, since the task may have frozen some itself.
        inner = [each for layer in self._layers for each in layers_within(layer)]
        self._former = [(each, each.trainable) for each in inner]
        self._former += [(v, v.trainable) for each in inner for v in made_trainable(each)]
        for layer in self._layers:
            layer.trainable = False

    def release(self) -> None:
        """Restore what was trainable."""
        # Outer layers first: setting a layer also sets everything inside it.
        for each, trainable in self._former:
            each.trainable = trainable
        self._former = []


def check_released(layers: Iterable[FrozenLayers], where: str, *, needed: bool = True) -> None:
    """Release layers that a failed fit has left frozen.

    Args:
        layers: The layers of the last fit.
        where: The callback's config key, for messages.
        needed: Whether they are to be trained later.

    Raises:
        UserError: If there are such layers, and they are needed.
    """
    left = [each for each in layers if each.frozen]
    for each in left:
        each.release()
    if left and needed:
        raise UserError(
            "an earlier fit failed with these layers frozen, so the optimizers were built "
            "without them",
            where=where,
            fix="The layers are unfrozen now: call fit again.",
        )


def find_layers(
    model: Any, patterns: Sequence[str], where: str, *, model_name: str | None = None
) -> list[Any]:
    """Return the layers of a task's models with these names.

    Args:
        model: The model, or a dict of them by name.
        patterns: Names, paths (`backbone/conv1`), or patterns of them (`block?_*`).
        where: The config key of the names, for messages.
        model_name: Look only in this one of several models.

    Raises:
        UserError: If there is no such layer or model.
    """
    models = models_of(model)
    several = len(models) > 1
    if model_name is not None:
        if model_name not in models:
            raise UserError(
                f"there is no model {model_name!r}",
                where=f"{where.rpartition('.')[0]}.model",
                fix=choice(model_name, models),
            )
        models, several = {model_name: models[model_name]}, False
    known = [
        pair for name, each in models.items() for pair in _named(each, name if several else "")
    ]
    found: dict[int, Any] = {}
    for pattern in patterns:
        fitting = [layer for name, layer in known if fnmatchcase(name, pattern)]
        if not fitting:
            raise UserError(
                f"no layer is called {pattern!r}",
                where=where,
                fix=closest(pattern, {name for name, _ in known}),
            )
        found |= {id(layer): layer for layer in fitting}
    return list(found.values())


def _named(model: keras.Layer, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield a model's layers and their inner layers, under each of their names."""
    if prefix:
        yield prefix, model
    for layer in layers_of(model):
        name = f"{prefix}/{layer.name}" if prefix else layer.name
        yield name, layer
        for inner in layers_below(layer):
            yield f"{name}/{inner.name}", inner
            yield (f"{prefix}/{inner.name}" if prefix else inner.name), inner
