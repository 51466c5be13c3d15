"""Arrays that are too large to hold twice."""

from __future__ import annotations

from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from framework.checkpoint import safe_arrays
from framework.checkpoint.tree import read_tree, write_tree
from framework.core.state import assign


def test_large_arrays_stay_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safe_arrays, "_LARGE", 1000)
    rng = np.random.default_rng(0)
    state = {
        "small": rng.random(3),
        "large": rng.random((50, 7)),
        "columns": np.asfortranarray(rng.random((50, 7))),
        "half": rng.random((50, 20)).astype(ml_dtypes.bfloat16),
        "many names" * 20: rng.integers(0, 9, (200, 3)),
    }
    write_tree(tmp_path, state)
    found = read_tree(tmp_path)
    assert found.keys() == state.keys()
    for name, array in state.items():
        mapped = isinstance(found[name], np.memmap)
        assert mapped == (name != "small")
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    found["large"][0] = 5  # the file is not changed
    np.testing.assert_array_equal(read_tree(tmp_path)["large"], state["large"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int8"])
def test_variables_take_values_as_keras_gives_them(dtype: str) -> None:
    value = np.arange(6).reshape(2, 3)
    ours, theirs = (keras.Variable(np.zeros((2, 3)), dtype=dtype) for _ in range(2))
    assign(ours, value.astype(ours.numpy().dtype))
    theirs.assign(value)
    np.testing.assert_array_equal(ours, theirs)
    plain = tf.Variable([0, 0])
    assign(plain, np.array([1, 2], np.int32))
    assert plain.numpy().tolist() == [1, 2]
