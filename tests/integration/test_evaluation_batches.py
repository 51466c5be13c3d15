"""Evaluation and prediction in large batches: the same results, in fewer calls."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, blobs, cross_entropy, make_trainer

from framework import Data

X, Y = blobs(1_100)


class Judged(Net):
    """Logs means of every kind."""

    def build_model(self) -> Any:
        self.auc = keras.metrics.SparseTopKCategoricalAccuracy(k=2)
        return super().build_model()

    def eval_step(self, batch: Any) -> None:
        x, y = batch
        logits = self.model(x, training=False)
        self.auc.update_state(y, logits)
        self.log("loss", cross_entropy(y, logits))
        self.log("metric", self.auc)
        self.log("weighted", tf.reduce_mean(x), weight=tf.reduce_sum(tf.cast(y, tf.float32)))


def test_large_batches_give_the_results_of_small_ones() -> None:
    task = Judged()
    small, large = (
        make_trainer().test(task, Data(test=(X, Y), eval_batch_size=size)) for size in (7, None)
    )
    assert large["test/metric"] == small["test/metric"]
    assert large["test/loss"] == pytest.approx(small["test/loss"], rel=1e-6)
    logits = X.astype("f8") @ task.model.get_weights()[0] + task.model.get_weights()[1]
    shifted = logits - logits.max(1, keepdims=True)
    expected = (np.log(np.exp(shifted).sum(1)) - shifted[np.arange(len(Y)), Y]).mean()
    assert large["test/loss"] == pytest.approx(expected, rel=1e-6)


def test_prediction_runs_once_for_each_large_batch() -> None:
    class Predicts(Net):
        def predict_step(self, batch: Any) -> Any:
            calls.append(1)
            return {"logits": self.model(batch[0], training=False), "row": batch[1]}

    calls: list[int] = []
    task = Predicts()
    small, large = (
        make_trainer().predict(task, Data(test=(X, Y), eval_batch_size=size)) for size in (7, None)
    )
    assert large["logits"].shape == (1_100, 3)
    np.testing.assert_allclose(large["logits"], small["logits"], atol=1e-6)
    np.testing.assert_array_equal(large["row"], Y)
    assert len(calls) == 4  # traced for a batch and its ragged last one, small and large
