"""The fastest loops that one would write by hand: XLA for each step, and for the whole loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from benchmarks.workloads import Workload, divided

Step = Callable[[Any, Any], None]


def hand_step_xla(workload: Workload, step: Step) -> Callable[[Any, Any], None]:
    """A `tf.range` loop over gathered batches, each step compiled by XLA."""
    x, y = tf.constant(workload.x), tf.constant(workload.y)
    jitted = tf.function(step, jit_compile=True)

    @tf.function
    def many(order: tf.Tensor, count: tf.Tensor) -> None:
        for number in tf.range(count):
            jitted(*_batch(workload, x, y, order, number))

    return many  # type: ignore[no-any-return]


def hand_loop_xla(workload: Workload, step: Step) -> Callable[[Any, Any], None]:
    """The same loop, the whole of it compiled by XLA over resident data."""
    x, y = tf.constant(workload.x), tf.constant(workload.y)

    @tf.function(jit_compile=True)
    def many(order: tf.Tensor, count: tf.Tensor) -> None:
        # Not `for number in tf.range(count)`, which XLA would compile anew for every count.
        number = tf.constant(0)
        while number < count:
            step(*_batch(workload, x, y, order, number))
            number += 1

    return many  # type: ignore[no-any-return]


def in_shuffled_calls(
    many: Callable[[Any, Any], None], metrics: list[keras.Metric], workload: Workload
) -> Callable[[int], float]:
    """Return what runs so many steps in calls, each over the next rows of a shuffled order."""
    most, rows = workload.steps_per_call, len(workload.x)
    whole = rows // workload.batch
    place = {"order": _shuffled(workload), "at": 0}

    def run(steps: int) -> float:
        many(place["order"][: most * workload.batch], tf.constant(1))
        began = time.perf_counter()
        done = 0
        while done < steps:
            count = min(most, steps - done, whole - place["at"])
            first = place["at"] * workload.batch
            part = tf.roll(place["order"], -first, 0)[: most * workload.batch]  # of one shape
            many(part, tf.constant(count))
            _ = [float(metric.result()) for metric in metrics]
            done += count
            place["at"] += count
            if place["at"] == whole:
                place["order"], place["at"] = _shuffled(workload), 0
        return time.perf_counter() - began

    run(64)
    return run


def _shuffled(workload: Workload) -> tf.Tensor:
    return tf.random.shuffle(tf.range(len(workload.x), dtype=tf.int64))


def _batch(workload: Workload, x: Any, y: Any, order: Any, number: Any) -> Any:
    place = tf.slice(order, [number * workload.batch], [workload.batch])
    batch = tf.gather(x, place), tf.gather(y, place)
    return divided(batch) if workload.scale else batch
