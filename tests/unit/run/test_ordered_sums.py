"""Sums do not depend on which thread was faster: the executed graphs add two at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.python.ops import gen_math_ops

from framework.run.process_settings import isolated

X = np.linspace(0.1, 1.0, 6, dtype=np.float32)


def by_tape() -> tf.Tensor:
    x = tf.Variable(X)
    with tf.GradientTape() as tape:
        y = tf.sin(x) + tf.tanh(x) + tf.exp(x) + x * x
    return tape.gradient(y, x)


def by_add_n() -> tf.Tensor:
    x = tf.Variable(X)
    with tf.GradientTape() as tape:
        y = tf.add_n([tf.sin(x), tf.tanh(x), tf.exp(x), x * x])
    return tape.gradient(y, x)


def by_gradients() -> tf.Tensor:
    """The gradients of a loop, which TensorFlow makes when the loop is differentiated."""
    x = tf.Variable(X)
    with tf.GradientTape() as tape:
        (y,) = tf.while_loop(
            lambda _: True,
            lambda y: (y + tf.reduce_sum([tf.sin(x), tf.tanh(x), tf.exp(x), x * x], 0),),
            (tf.zeros_like(x),),
            maximum_iterations=1,
        )
    return tape.gradient(y, x)


def by_plus() -> tf.Tensor:
    x = tf.Variable(X)
    return tf.cos(x) + (1.0 - tf.tanh(x) ** 2) + tf.exp(x) + 2.0 * x


WRITTEN: dict[str, Callable[[], tf.Tensor]] = {
    "tape": by_tape,
    "add_n": by_add_n,
    "loop": by_gradients,
    "plus": by_plus,
}
WANTED = np.cos(X) + 1 - np.tanh(X) ** 2 + np.exp(X) + 2 * X


def executed(write: Callable[[], tf.Tensor]) -> tuple[int, np.ndarray]:
    """Return how many tensors an AddN adds up in the graph that TensorFlow executes; the sum."""
    variables: list[Any] = []

    def creator(make: Any, **options: Any) -> Any:
        if not variables:
            with tf.init_scope():
                variables.append(make(**options))
        return variables[0]

    def body() -> tf.Tensor:
        with tf.variable_creator_scope(creator):
            return write()

    function = tf.function(body, autograph=False)
    context.enable_run_metadata()
    try:
        value = function().numpy()
        ran = context.export_run_metadata()
    finally:
        context.disable_run_metadata()
    graphs = list(ran.partition_graphs)
    nodes = [node for graph in graphs for node in graph.node]
    nodes += [n for graph in graphs for each in graph.library.function for n in each.node_def]
    assert nodes
    return max((len(n.input) for n in nodes if n.op == "AddN"), default=0), value


@pytest.mark.parametrize("name", WRITTEN)
def test_sums_are_made_of_pairs_where_a_run_is_at_work(name: str) -> None:
    outside, _ = executed(WRITTEN[name])
    assert outside > 2
    with isolated("float32"):
        inside, value = executed(WRITTEN[name])
    assert inside <= 2
    np.testing.assert_allclose(value, WANTED, rtol=1e-6)


def test_everything_is_put_back() -> None:
    own = gen_math_ops.add_n, gen_math_ops.add_v2
    with isolated("float32", deterministic=True):
        assert gen_math_ops.add_n is not own[0]
        assert gen_math_ops.add_v2 is not own[1]
    assert (gen_math_ops.add_n, gen_math_ops.add_v2) == own


def slopes_of_skips() -> Any:
    """A fresh function of gradients that are sums of many, whose addends have other readers.

    Whether these, biases among them, are done when the sum begins depends on the threads.
    """
    random = np.random.RandomState(0)
    first, second, third = (
        tf.Variable(random.randn(200, 200) / 14, dtype=tf.float32) for _ in range(3)
    )
    biases = [tf.Variable(tf.zeros(200)) for _ in range(2)]
    x = tf.constant(random.randn(200, 200), tf.float32)

    @tf.function(autograph=False)
    def slopes() -> Any:
        with tf.GradientTape() as tape:
            a = tf.sin(x @ first)
            b = a + tf.nn.bias_add(tf.sin(a) @ second, biases[0])
            c = a + b + tf.nn.bias_add(tf.sin(b) @ third, biases[1])
            loss = tf.reduce_sum((tf.sin(c) * 2.0 + a + b) ** 2)
        return tape.gradient(loss, [first, second, third, *biases])

    return slopes


def test_sums_of_gradients_do_not_depend_on_which_thread_was_faster() -> None:
    with isolated("float32"):
        slopes = slopes_of_skips()
        found = {b"".join(g.numpy().tobytes() for g in slopes()) for _ in range(300)}
    assert len(found) == 1
