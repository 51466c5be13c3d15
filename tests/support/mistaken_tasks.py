"""A task of two optimisers, and what mistaken steps do with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from bare_parts import net
from manual_tasks import ByHand, label_loss


class Pair(ByHand):
    """Two models, and whatever is asked for in a step."""

    def __init__(self, act: Callable[[Pair], Any], configured: Callable[[Any], Any]) -> None:
        super().__init__()
        self.act, self.configured = act, configured

    def build_model(self) -> Any:
        return {"critic": net(6, 3, seed=1), "maker": net(6, 3, seed=2)}

    def configure_optimizers(self) -> Any:
        return self.configured(self.model)

    def train_step(self, batch: Any) -> Any:
        self.batch = batch
        return self.act(self)

    def judge(self) -> tf.Tensor:
        return label_loss(self.model["critic"], self.batch)


class AutomaticPair(Pair):
    automatic_optimization = True


def two(model: Any) -> Any:
    return {name: keras.optimizers.SGD(0.1) for name in ("critic", "maker")}


def shared(model: Any) -> Any:
    return {name: (keras.optimizers.SGD(0.1), model["critic"]) for name in "ab"}


def frozen(model: Any) -> Any:
    model["maker"].trainable = False
    return two(model)


def twice(model: Any) -> Any:
    return dict.fromkeys(("critic", "maker"), keras.optimizers.SGD(0.1))
