"""Freezing layers, and unfreezing them at an epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import keras

from framework.callback import Callback
from framework.callbacks.shapes import layers_of
from framework.compat import layers_below, layers_within, made_trainable
from framework.core.models import models_of
from framework.errors import UserError, choice, closest

if TYPE_CHECKING:
    from framework.callback import RunView

_WHERE = "callbacks.freeze"


class Freeze(Callback):
    """Keep layers as they are, for the first epochs or for the whole run.

    A frozen layer's weights change in no bit: neither gradients nor weight decay reach them, and
    batch norm runs on its statistics without renewing them, which is Keras's rule. Optimizers
    have slots for them all the same, so that they learn like the others once they are let go. The
    training step is then compiled anew. After `fit` every layer is as trainable as it was before.

    Example:
        >>> Freeze("backbone/*", until=2)                 # the head learns alone in epochs 0 and 1
        >>> Freeze(["conv1", "conv2"])                    # for ever
        >>> Freeze("block?_*", model="generator")         # in one of several models

    Args:
        layers: Names of layers, or patterns of them as for file names (`*`, `?`, `[ab]`); one or
            several. A layer inside of a layer, such as that of a pretrained network, goes by its
            own name or by both: `backbone/conv1`. Where there are several models, a name begins
            with the model's: `critic/conv1`, or `critic` for all of it.
        until: The epoch, counted from 0, at whose beginning the layers are let go. Default: never.
        model: Look in this one of several models only, whose name is then left out.

    Raises:
        UserError: An argument is out of range; in `fit`, if nothing bears a name, or there is
            nothing to freeze in what does.
    """

    def __init__(
        self,
        layers: Sequence[str] | str = "",
        until: int | None = None,
        model: str | None = None,
    ) -> None:
        names = [layers] if isinstance(layers, str) else list(layers)
        if not names or not all(isinstance(name, str) and name for name in names):
            _refuse("layers", layers, 'the names of layers: "conv1", or ["conv1", "block2_*"]')
        if until is not None and (type(until) is not int or until < 1):
            _refuse("until", until, "the number of an epoch, 1 or more, or null: for ever")
        self.layers, self.until, self.model = names, until, model
        self._chosen: list[Any] = []
        self._former: list[tuple[Any, bool]] = []

    def on_setup(self, run: RunView) -> None:
        """Freeze, after the optimizers have made their slots and before a step is compiled."""
        if run.stage != "fit":
            return
        if self._former:
            self._release()
            if self.until is not None:
                raise UserError(
                    "an earlier fit failed with these layers frozen, so that the optimizers were "
                    "made without them",
                    where=_WHERE,
                    fix="They are let go now: call fit again.",
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
        """Let the layers go if this is the epoch, or freeze them if it is an earlier one."""
        # By where the run stands, since it may have been continued past that epoch.
        frozen = self.until is None or run.progress.epoch < self.until
        if frozen == bool(self._former):
            return
        if frozen:
            self._freeze()
        else:
            self._release()
        run.recompile()

    def on_fit_end(self, run: RunView) -> None:
        """Leave the layers as trainable as they were."""
        self._release()

    def _freeze(self) -> None:
        # Of every layer within and every weight: some may have been frozen by hand.
        inner = [each for layer in self._chosen for each in layers_within(layer)]
        self._former = [(each, each.trainable) for each in inner]
        self._former += [(v, v.trainable) for each in inner for v in made_trainable(each)]
        for layer in self._chosen:
            layer.trainable = False

    def _release(self) -> None:
        # In this order: setting a layer also sets all that is in it.
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
    """Give a model's layers, and those in them, under each name that they go by."""
    if prefix:
        yield prefix, model
    for layer in layers_of(model):
        name = f"{prefix}/{layer.name}" if prefix else layer.name
        yield name, layer
        for inner in layers_below(layer):
            yield f"{name}/{inner.name}", inner
            yield (f"{prefix}/{inner.name}" if prefix else inner.name), inner


def _refuse(name: str, value: object, wanted: str) -> None:
    raise UserError(f"{name} is {value!r}", where=f"{_WHERE}.{name}", fix=f"Give {wanted}.")
