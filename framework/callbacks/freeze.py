"""Freezes layers, and unfreezes them at an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Any

import keras

from framework.callback import Callback, RunView
from framework.callbacks.shapes import layers_of
from framework.compat import layers_below, layers_within, made_trainable
from framework.core.models_by_name import models_of
from framework.errors import UserError, choice, closest
from framework.options.option import refuse

_WHERE = "callbacks.freeze"


class Freeze(Callback):
    """Freeze layers for the first epochs or for the whole run.

    The weights of a frozen layer do not change at all: neither gradients nor weight decay reach
    them. As always in Keras, a frozen batch norm uses its statistics without updating them.
    Optimizers still have slots for the frozen weights, so these train like all others after they
    are unfrozen; the training step is compiled again then. After `fit`, every layer is as
    trainable as before.

    Example:
        >>> Freeze("backbone/*", until=2)                 # the head learns alone in epochs 0 and 1
        >>> Freeze(["conv1", "conv2"])                    # for the whole run
        >>> Freeze("block?_*", model="generator")         # in one of several models

    Args:
        layers: One or several layer names, or patterns as for file names (`*`, `?`, `[ab]`). A
            layer inside another layer, such as a pretrained network, is found by its own name or
            by its path: `backbone/conv1`. If the task has several models, a name starts with the
            model's: `critic/conv1`, or `critic` for the whole model.
        until: Unfreeze the layers when this epoch starts, counted from 0. Default: never.
        model: Look only in this one of several models; names then omit the model's name.

    Raises:
        UserError: If an argument is out of range; in `fit`, if no layer has a given name, or the
            layers have no trainable weights.
    """

    def __init__(
        self, layers: Sequence[str] | str = "", until: int | None = None, model: str | None = None
    ) -> None:
        names = [layers] if isinstance(layers, str) else list(layers)
        if not names or not all(isinstance(name, str) and name for name in names):
            wanted = 'the names of layers: "conv1", or ["conv1", "block2_*"]'
            refuse("layers", layers, wanted, _WHERE)
        if until is not None and (type(until) is not int or until < 1):
            wanted = "an epoch number of at least 1, or null for the whole run"
            refuse("until", until, wanted, _WHERE)
        self.layers, self.until, self.model = names, until, model
        self._chosen: list[Any] = []
        self._former: list[tuple[Any, bool]] = []

    def on_setup(self, run: RunView) -> None:
        """Freeze after the optimizers have created their slots, before a step is compiled."""
        if run.stage != "fit":
            return
        if self._former:
            self._release()
            if self.until is not None:
                raise UserError(
                    "an earlier fit failed with these layers frozen, so the optimizers were built "
                    "without them",
                    where=_WHERE,
                    fix="The layers are unfrozen now: call fit again.",
                )
        self._chosen = self._find(run.task.model)
        weights = [v for layer in self._chosen for v in layer.trainable_variables]
        if not weights:
            raise UserError(
                f"there is nothing to freeze in {', '.join(self.layers)}: no trainable weights",
                where=f"{_WHERE}.layers",
                fix="Name layers that have weights, and leave them trainable in build_model.",
            )
        self._freeze()

    def on_epoch_start(self, run: RunView) -> None:
        """Unfreeze the layers from epoch `until` on, and freeze them before."""
        # Compares with the current epoch, since a run may resume after `until`.
        frozen = self.until is None or run.progress.epoch < self.until
        if frozen == bool(self._former):
            return
        if frozen:
            self._freeze()
        else:
            self._release()
        run.recompile()

    def on_fit_end(self, run: RunView) -> None:
        """Restore whether each layer was trainable."""
        self._release()

    def _freeze(self) -> None:
        # For every inner layer and every weight, since the task may have frozen some itself.
        inner = [each for layer in self._chosen for each in layers_within(layer)]
        self._former = [(each, each.trainable) for each in inner]
        self._former += [(v, v.trainable) for each in inner for v in made_trainable(each)]
        for layer in self._chosen:
            layer.trainable = False

    def _release(self) -> None:
        # Outer layers first: setting a layer also sets everything inside it.
        for each, trainable in self._former:
            each.trainable = trainable
        self._former = []

    def _find(self, model: Any) -> list[Any]:
        models = models_of(model)
        several = len(models) > 1
        if self.model is not None:
            if self.model not in models:
                raise UserError(
                    f"there is no model {self.model!r}",
                    where=f"{_WHERE}.model",
                    fix=choice(self.model, models),
                )
            models, several = {self.model: models[self.model]}, False
        known = [
            pair for name, each in models.items() for pair in _named(each, name if several else "")
        ]
        found: dict[int, Any] = {}
        for pattern in self.layers:
            fitting = [layer for name, layer in known if fnmatchcase(name, pattern)]
            if not fitting:
                raise UserError(
                    f"no layer is called {pattern!r}",
                    where=f"{_WHERE}.layers",
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
