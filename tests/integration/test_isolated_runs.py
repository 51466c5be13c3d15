"""A run leaves the process as it found it, however it ends."""

from __future__ import annotations

import random
import signal
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, blobs, busy_data, differing, fitted, make_trainer, noisy
from tensorflow.python.framework import config as tf_config

from framework import Data

# Whole batches: each shape would be traced anew in every run.
WHOLE = busy_data(rows=40, val=blobs(8, seed=1))


def draws() -> tuple[Any, ...]:
    """One number of every stateful random source there is."""
    return (
        random.random(),
        float(np.random.rand()),
        float(tf.random.uniform([])),
        float(keras.random.uniform([])),
        keras.layers.Dense(1).name,
        keras.layers.Dense(1).name,
        float(keras.initializers.GlorotUniform()((1, 1))[0, 0]),
    )


def settings() -> tuple[Any, ...]:
    return (
        keras.config.floatx(),
        keras.config.dtype_policy().name,
        tf_config.is_op_determinism_enabled(),
        signal.getsignal(signal.SIGINT),
        signal.getsignal(signal.SIGTERM),
        tf.config.functions_run_eagerly(),
    )


class Fails(Net):
    def on_epoch_end(self) -> None:
        raise RuntimeError("boom")


def run(kind: str) -> None:
    options = {"precision": "mixed_float16", "deterministic": True, "seed": 9, "max_epochs": 1}
    if kind == "float64":
        options["precision"] = "float64"
    trainer = make_trainer(**options)
    task = (Fails if kind == "failed" else Net)(noisy)
    if kind == "failed":
        with pytest.raises(RuntimeError):
            trainer.fit(task, WHOLE)
    elif kind == "predict":
        trainer.predict(task, WHOLE)
    else:
        trainer.fit(task, WHOLE)


@pytest.mark.parametrize("kind", ["completed", "failed", "float64", "predict"])
def test_a_run_changes_nothing_in_the_process(kind: str) -> None:
    keras.utils.set_random_seed(17)
    keras.backend.clear_session()
    random_before = [draws() for _ in range(4)]

    keras.utils.set_random_seed(17)
    keras.backend.clear_session()
    before = settings()
    found = [draws(), draws()]
    run(kind)
    assert settings() == before
    found.append(draws())
    run(kind)
    found.append(draws())
    assert found == random_before


def test_two_identical_runs_in_one_process_are_identical() -> None:
    keras.layers.Dense(1)  # a name is taken, a seed is drawn
    first = Net(noisy)
    one = fitted(first, WHOLE)
    fitted(Net(noisy), WHOLE, precision="mixed_float16", seed=3)
    keras.layers.Dense(1)
    second = Net(noisy)
    two = fitted(second, WHOLE)
    assert [v.path for v in first.model.variables] == [v.path for v in second.model.variables]
    assert differing(one, two) == []


def test_a_run_inside_a_run_restores_in_turn() -> None:
    class Outer(Net):
        def on_epoch_end(self) -> None:
            fitted(Net(noisy), Data(train=blobs(16), batch_size=8), precision="float64", seed=8)
            policies.append(keras.config.dtype_policy().name)

    policies: list[str] = []
    plain = fitted(Net(noisy), WHOLE, precision="mixed_bfloat16", max_epochs=2)
    outer = fitted(Outer(noisy), WHOLE, precision="mixed_bfloat16", max_epochs=2)
    assert policies == ["mixed_bfloat16"] * 2
    assert differing(plain, outer) == []
