"""What a model takes, written down: shapes, class names, and what `Data.map` does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from framework import Data, UserError
from framework.sources.inputs import Inputs
from framework.sources.open import open_eval

X = np.arange(24, dtype=np.uint8).reshape(6, 2, 2)


def written(path: Path, data: Data) -> Inputs:
    source = open_eval(data, "test", seed=0)[""]
    Inputs.of(source, data.class_names).write(path)
    found = Inputs.read(path)
    assert found is not None
    return found


def test_a_map_is_read_back_and_gives_what_numpy_gives(tmp_path: Path) -> None:
    def scaled(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {"x": tf.cast(batch["x"], tf.float32) / 8 - 1, "y": batch["y"]}

    data = Data(test={"x": X, "y": np.arange(6)}, map=scaled, class_names=("no", "yes"))
    found = written(tmp_path / "inputs.json", data)
    assert found.class_names == ("no", "yes")
    assert found.raw["x"] == tf.TensorSpec([None, 2, 2], tf.uint8)
    assert found.batch["x"] == tf.TensorSpec([None, 2, 2], tf.float32)
    batch = found.mapped({"x": X[:3], "y": np.arange(3)})
    np.testing.assert_allclose(batch["x"], X[:3] / 8 - 1, rtol=1e-6)
    np.testing.assert_array_equal(batch["y"], [0, 1, 2])


def test_texts_pass_where_there_is_no_map(tmp_path: Path) -> None:
    words = np.array(["red", "green"])
    found = written(tmp_path / "inputs.json", Data(test={"word": words}))
    assert found.raw["word"] == tf.TensorSpec([None], tf.string)
    assert found.mapped({"word": words})["word"].tolist() == ["red", "green"]


def test_shapes_of_a_stream_come_from_its_description_without_reading_it(tmp_path: Path) -> None:
    def never() -> None:
        raise AssertionError("it was read")

    rows = tf.data.Dataset.from_tensor_slices((X, np.arange(6))).batch(4)
    rows = rows.map(lambda x, y: (x, y + tf.py_function(lambda: never() or 0, [], tf.int64)))
    rows = rows.map(lambda x, y: (x, tf.ensure_shape(y, [None])))
    found = written(tmp_path / "inputs.json", Data(test=rows))
    assert found.raw[0] == tf.TensorSpec([None, 2, 2], tf.uint8)


def test_a_map_that_is_more_than_arithmetic_leaves_the_shapes_and_the_reason(
    tmp_path: Path,
) -> None:
    def python(batch: tuple[tf.Tensor]) -> tuple[tf.Tensor]:
        whole = tf.numpy_function(lambda x: x / np.float32(2), [batch[0]], tf.float32)
        return (tf.ensure_shape(whole, [None, 2, 2]),)

    found = written(tmp_path / "inputs.json", Data(test=(X,), map=python))
    assert found.batch[0] == tf.TensorSpec([None, 2, 2], tf.float32)
    with pytest.raises(UserError, match="PyFunc"):
        found.mapped((X,))


def test_a_file_that_is_damaged_or_later_is_refused_and_none_is_none(tmp_path: Path) -> None:
    path = tmp_path / "inputs.json"
    assert Inputs.read(path) is None
    written(path, Data(test=(X,)))
    whole = path.read_text()
    for text in (whole[: len(whole) // 2], "[]", json.dumps({**json.loads(whole), "format": 2})):
        path.write_text(text)
        with pytest.raises(UserError, match="cannot be read"):
            Inputs.read(path)
