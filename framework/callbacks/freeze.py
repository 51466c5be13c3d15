"""Freezes layers, and unfreezes them at an epoch."""

from __future__ import annotations

from collections.abc import Sequence

from framework.callback import Callback, RunView
from framework.callbacks.frozen_layers import FrozenLayers, check_released, find_layers
from framework.errors import UserError
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
        self._frozen = FrozenLayers([])

    def on_setup(self, run: RunView) -> None:
        """Freeze after the optimizers have created their slots, before a step is compiled."""
        if run.stage != "fit":
            return
        check_released([self._frozen], _WHERE, needed=self.until is not None)
        self._frozen = FrozenLayers(
            find_layers(run.task.model, self.layers, f"{_WHERE}.layers", model_name=self.model)
        )
        if not self._frozen.weights:
            raise UserError(
                f"there is nothing to freeze in {', '.join(self.layers)}: no trainable weights",
                where=f"{_WHERE}.layers",
                fix="Name layers that have weights, and leave them trainable in build_model.",
            )
        self._frozen.freeze()

    def on_epoch_start(self, run: RunView) -> None:
        """Unfreeze the layers from epoch `until` on, and freeze them before."""
        # Compares with the current epoch, since a run may resume after `until`.
        frozen = self.until is None or run.progress.epoch < self.until
        if self._frozen.set(frozen):
            run.recompile()

    def on_fit_end(self, run: RunView) -> None:
        """Restore whether each layer was trainable."""
        self._frozen.release()
