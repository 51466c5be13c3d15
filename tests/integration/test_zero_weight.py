"""What has no weight counts for nothing: in means, and for whoever judges by them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, blobs, make_trainer

from framework import Data, Task
from framework.callbacks.early_stopping import EarlyStopping
from framework.callbacks.reduce_on_plateau import ReduceOnPlateau

DATA = Data(train=blobs(40), val=blobs(40), batch_size=8, shuffle=False)


def test_weights_of_zero_count_for_nothing_even_where_values_are_not_finite() -> None:
    class Masked(Net):
        def train_step(self, batch: Any) -> Any:
            odd = tf.cast(self.global_step % 2, tf.float32)
            self.log("odd_loss", self_number(self) / odd, weight=odd)  # inf or NaN where even
            self.log("twice", np.float32(np.nan), weight=0.0)
            self.log("twice", 3.0)
            self.log("late_loss", 1.0, weight=tf.cast(self.global_step >= 5, tf.float32))
            return super().train_step(batch)

        def eval_step(self, batch: Any) -> None:
            self.log("none", np.float32(np.nan), weight=0.0)
            self.log("loss", 1.0)

    def self_number(task: Task) -> Any:
        return tf.cast(task.global_step, tf.float32)

    run = make_trainer(max_epochs=2, log_every="1st")
    metrics = run.fit(Masked(optimizer="sgd"), DATA)
    assert run.status == "completed"
    assert metrics["train/odd_loss"] == (5 + 7 + 9) / 3  # of the second epoch: steps 5 to 9
    assert metrics["train/twice"] == 3.0
    assert metrics["train/late_loss"] == 1.0
    assert "val/none" not in metrics


@pytest.mark.parametrize("stage", ["val", "train"])
def test_where_a_metric_has_no_weight_nobody_judges_it(stage: str) -> None:
    """Values by epoch, None where they have no weight: 1, none, none, none, 0.5, none, 0.75."""
    values = [1.0, 0.0, 0.0, 0.0, 0.5, 0.0, 0.75, 0.875, 0.25]

    class Seldom(Net):
        def log_seldom(self, epoch: Any) -> None:
            value = tf.gather(values, epoch)
            counts = tf.cast(value > 0, tf.float32)
            self.log("seldom", tf.where(value > 0, value, np.nan), weight=counts)

        def train_step(self, batch: Any) -> Any:
            self.log_seldom(self.global_step // 5)
            return super().train_step(batch)

        def eval_step(self, batch: Any) -> None:
            self.log_seldom(self.global_step // 5 - 1)

    monitor = f"{stage}/seldom"
    stopping = EarlyStopping(monitor, mode="min", patience=2)
    plateau = ReduceOnPlateau(monitor, mode="min", patience=2, factor=0.5)
    run = make_trainer(max_epochs=9, callbacks=[stopping, plateau])
    task = Seldom(optimizer=keras.optimizers.SGD(0.1))
    run.fit(task, DATA)
    # 0.5 in epoch 5 is the best; 0.75 in epoch 7 and 0.875 in epoch 8 are the two that are not.
    assert (run.status, run.progress.epoch) == ("stopped", 8)
    assert stopping.best == 0.5
    assert float(run.optimizers["optimizer"].learning_rate) == pytest.approx(0.05)
    assert run.measured_at(monitor) == 40
