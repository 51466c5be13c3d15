"""Means over the whole batch, on one device, on several, and in pieces."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from helpers import make_trainer

from framework import Data, Task
from framework.errors import UserError


class Masked(Task):
    def build_model(self) -> Any:
        return keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(1, kernel_initializer="zeros")]
        )

    def train_step(self, batch: Any) -> Any:
        x, y, mask = batch
        return self.global_mean((self.model(x, training=True) - y) ** 2, mask)

    def eval_step(self, batch: Any) -> None:
        pass


def masked(rows: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.RandomState(0)
    x = random.randn(rows, 3).astype("float32")
    mask = (np.arange(rows) % 5 < 2).astype("float32")[:, None]
    mask[:7] = 0
    return x, x[:, :1] + 1, mask


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_global_mean_is_the_ratio_over_the_whole_batch(devices: int) -> None:
    x, y, mask = masked(17)  # batches of 7, 7 and 3 rows, the first of weight 0
    task = Masked(optimizer=keras.optimizers.SGD(0.1))
    data = Data(train=(x, y, mask), batch_size=7, shuffle=False)
    made = make_trainer(max_epochs=1, devices=devices).fit(task, data)
    w, b, losses = np.zeros((3, 1)), np.zeros(1), []
    for part in (slice(0, 7), slice(7, 14), slice(14, 17)):
        error, count = x[part] @ w + b - y[part], max(mask[part].sum(), 1)
        losses.append((mask[part] * error**2).sum() / count)
        slope = 2 * mask[part] * error / count
        w, b = w - 0.1 * x[part].T @ slope, b - 0.1 * slope.sum(0)
    np.testing.assert_allclose(task.model.get_weights()[0], w, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(task.model.get_weights()[1], b, rtol=1e-5, atol=1e-7)
    assert made["train/loss"] == pytest.approx(np.average(losses, weights=[7, 7, 3]), rel=1e-5)


def test_global_mean_is_refused_where_a_step_sees_pieces() -> None:
    x, y, mask = masked(16)
    with pytest.raises(UserError, match=r"needs the whole batch"):
        make_trainer(max_steps=1, accumulate=2).fit(
            Masked(), Data(train=(x, y, mask), batch_size=4)
        )
