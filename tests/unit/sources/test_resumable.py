"""What makes the order of a stream random."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import tensorflow as tf
from resumed import nested, seeded
from tensorflow.python.eager import context

from framework.sources.can_resume import obstacle


@pytest.fixture
def without_a_global_seed() -> Iterator[None]:
    former = context.global_seed()
    tf.random.set_seed(None)
    yield
    tf.random.set_seed(former)


@pytest.mark.usefixtures("without_a_global_seed")
def test_what_makes_a_dataset_a_matter_of_chance() -> None:
    rows = tf.data.Dataset.range(20)
    assert obstacle(rows.batch(4)) is None
    assert obstacle(seeded()) is None
    assert obstacle(nested()) is None
    assert "without a seed" in str(obstacle(rows.shuffle(20)))
    assert "without a seed" in str(obstacle(rows.interleave(lambda x: rows.shuffle(3))))
    tf.random.set_seed(1)  # TensorFlow derives the seed of each operation from it
    assert obstacle(rows.shuffle(20)) is None
    drawn = rows.map(lambda x: tf.cast(x, tf.float32) + tf.random.uniform([]))
    assert "tf.random.uniform" in str(obstacle(drawn))
    python = rows.map(lambda x: tf.py_function(lambda y: y, [x], tf.int64))
    assert "py_function" in str(obstacle(python))
    racing = rows.map(lambda x: x, num_parallel_calls=2, deterministic=False)
    assert "deterministic" in str(obstacle(racing))
