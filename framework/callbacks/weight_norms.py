"""Logs the norms of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from framework.callback import Callback
from framework.callbacks.named_weights import weights_by_name
from framework.every import Every

if TYPE_CHECKING:
    from framework.callback import RunView


class WeightNorms(Callback):
    """Log the norm of all trainable weights as `train/weight_norm`.

    A norm that grows without end asks for weight decay; one that falls to zero has too much of it.
    The device computes the norms, and the host fetches them together. The norm of the gradients
    is logged by `trainer.log_grad_norm=true`.

    Example:
        >>> Trainer(callbacks=[WeightNorms(every="100st", per_layer=True)])

    Args:
        every: When to log: `100st`, `1ep`, `30s`.
        per_layer: Also log the norm of each layer's weights, as `train/weight_norm/<layer>`.
    """

    def __init__(self, every: str = "1ep", per_layer: bool = False) -> None:
        self.every, self.per_layer = Every(every), per_layer

    def on_wake(self, run: RunView) -> None:
        """Log the norms."""
        layers: dict[str, list[tf.Tensor]] = {}
        for name, variable in weights_by_name(run.task.model).items():
            # In float64: the squares of many small weights must not vanish beside the large ones.
            square = tf.reduce_sum(tf.square(tf.cast(variable, tf.float64)))
            layers.setdefault(name.rpartition("/")[0], []).append(square)
        if not layers:  # all of them are frozen
            return
        squares = tf.stack([tf.add_n(each) for each in layers.values()])
        norms = tf.sqrt(tf.concat([[tf.reduce_sum(squares)], squares], 0)).numpy()
        found = {"train/weight_norm": float(norms[0])}
        if self.per_layer:
            pairs = zip(layers, norms[1:], strict=True)
            found |= {f"train/weight_norm/{layer}": float(norm) for layer, norm in pairs}
        run.log_metrics(found)
