"""Random numbers for steps and augmentations: functions of a seed, identical in every engine.

TensorFlow's `tf.random.stateless_*` produce the same raw bits with and without XLA, but convert
them to different floats. Here, only exact operations convert bits to floats, so graph, XLA and
eager give identical numbers to the last bit. (What a step computes from them is rounded as its
engine rounds.)

A seed is two whole numbers, as given by `Task.step_seed` and `Data(augment=...)`. The same seed
and shape give the same numbers; `fold` derives further seeds from one.

Example:
    >>> from framework import random
    >>> noise = random.normal(tf.shape(x), seed, stddev=0.1)
    >>> keep = random.bernoulli([32, 1], random.fold(seed, 1), 0.9)
"""

from __future__ import annotations

from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
import tensorflow as tf

from framework.core.autograph import not_converted
from framework.errors import UserError

_FACTOR = 6364136223846793005  # from Knuth's MMIX generator: odd, without small factors
_BITS = {tf.bfloat16: 8, tf.float16: 11, tf.float32: 24, tf.float64: 32}
_SEGMENTS = 256  # per octave of a table


@not_converted
def fold(seed: Any, *numbers: Any) -> tf.Tensor:
    """Derive another seed from each list of numbers, such as one per device, layer or draw.

    Args:
        seed: Two whole numbers.
        *numbers: Whole numbers, or scalar tensors of them.

    Returns:
        An int64 tensor of shape [2].

    Raises:
        UserError: The seed is not two whole numbers.
    """
    first, second = tf.unstack(_seed(seed))
    for number in numbers:
        first = (first + 1) * tf.constant(_FACTOR, tf.int64) + tf.cast(number, tf.int64)
    return tf.stack([first, second])


@not_converted
def bits(shape: Any, seed: Any) -> tf.Tensor:
    """Return 32 random bits per element, as uint32; the other functions build on this.

    Args:
        shape: The shape of the result: a list, or a tensor of shape [rank].
        seed: Two whole numbers.

    Raises:
        UserError: An argument is invalid.
    """
    found = tf.random.stateless_uniform(
        _shape(shape), _seed(seed), minval=None, maxval=None, dtype=tf.int32, alg="philox"
    )
    return tf.bitcast(found, tf.uint32)


@not_converted
def uniform(
    shape: Any,
    seed: Any,
    minval: float = 0.0,
    maxval: float = 1.0,
    dtype: Any = tf.float32,
) -> tf.Tensor:
    """Return numbers uniformly distributed in [minval, maxval).

    Args:
        shape: The shape of the result.
        seed: Two whole numbers.
        minval: The lower bound, inclusive; a Python number.
        maxval: The upper bound, exclusive; a Python number.
        dtype: bfloat16, float16, float32 or float64. Numbers from [0, 1) are multiples of 2**-8,
            2**-11, 2**-24 and 2**-32.

    Raises:
        UserError: An argument is invalid, or minval is not below maxval.
    """
    kind = _kind(dtype, tuple(_BITS), "uniform")
    minval, maxval = _number(minval, "minval", "uniform"), _number(maxval, "maxval", "uniform")
    if not 0 < maxval - minval < float(np.finfo(np.float32).max):
        raise UserError(
            f"minval is {minval:g} and maxval {maxval:g}",
            where="random.uniform",
            fix="Give a maxval above minval, by less than 3.4e38.",
        )
    many = _BITS[kind]
    whole = tf.bitwise.right_shift(tf.bitcast(bits(shape, seed), tf.int32), 32 - many)
    # Use signed integers, which every device can convert; each of the steps is exact.
    unit = tf.cast(whole, kind) * tf.constant(2.0**-many, kind) + tf.constant(0.5, kind)
    if (minval, maxval) == (0.0, 1.0):
        return unit
    return _between(unit, minval, maxval, kind)


def _between(unit: tf.Tensor, low: float, high: float, kind: tf.DType) -> tf.Tensor:
    # In double precision the product is exact, so the sum is rounded once, fused or not.
    width = np.float64(np.float32(high - low))
    if kind == tf.float64:
        unit = tf.floor(unit * 2.0**29) * 2.0**-29
    wide = tf.cast(unit, tf.float64) * width + np.float64(low)
    found = tf.cast(wide, kind)
    last = np.nextafter(np.asarray(high, kind.as_numpy_dtype), np.asarray(low, kind.as_numpy_dtype))
    return tf.minimum(found, tf.constant(last, kind))


@not_converted
def bernoulli(shape: Any, seed: Any, probability: float | tf.Tensor = 0.5) -> tf.Tensor:
    """Return booleans that are True with a given probability.

    Args:
        shape: The shape of the result.
        seed: Two whole numbers.
        probability: From 0 to 1; a number, or a tensor that broadcasts to the shape.

    Raises:
        UserError: An argument is invalid.
    """
    known = tf.get_static_value(tf.convert_to_tensor(probability))
    if known is not None and not ((known >= 0) & (known <= 1)).all():
        raise UserError(
            f"the probability is {known}",
            where="random.bernoulli",
            fix="Give one from 0 (never) to 1 (always).",
        )
    return uniform(shape, seed) < tf.cast(probability, tf.float32)


@not_converted
def randint(shape: Any, seed: Any, minval: int, maxval: int, dtype: Any = tf.int64) -> tf.Tensor:
    """Return integers from minval to maxval - 1, equally likely up to 2**-32 of their range.

    Args:
        shape: The shape of the result.
        seed: Two whole numbers.
        minval: The smallest value; a number or a scalar tensor.
        maxval: One above the largest value, at most 2**31 above minval.
        dtype: int32 or int64.

    Raises:
        UserError: The range is empty or too large, or the dtype is not supported.
    """
    kind = _kind(dtype, (tf.int32, tf.int64), "randint")
    low, high = tf.cast(minval, tf.int64), tf.cast(maxval, tf.int64)
    count = tf.get_static_value(high - low)
    if count is not None and not (0 < count <= 2**31):
        raise UserError(
            f"there are {count:,} numbers from {minval} to below {maxval}",
            where="random.randint",
            fix="Give a maxval above minval, by 2**31 at the most.",
        )
    drawn = tf.cast(bits(shape, seed), tf.int64) * (high - low)
    return tf.cast(low + tf.bitwise.right_shift(drawn, tf.constant(32, tf.int64)), kind)


@not_converted
def normal(
    shape: Any, seed: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = tf.float32
) -> tf.Tensor:
    """Return normally distributed numbers, at most 5.4 standard deviations from the mean.

    They come from a table of the distribution's quantiles, accurate to 1e-5 deviations.

    Args:
        shape: The shape of the result.
        seed: Two whole numbers.
        mean: A Python number.
        stddev: A Python number.
        dtype: bfloat16, float16, float32 or float64; drawn in float32, then cast to it.

    Raises:
        UserError: An argument is invalid.
    """
    return _of_table("normal", shape, seed, mean, stddev, 0.0, dtype)


@not_converted
def truncated_normal(
    shape: Any, seed: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = tf.float32
) -> tf.Tensor:
    """Return normally distributed numbers, at most two standard deviations from the mean."""
    return _of_table("truncated_normal", shape, seed, mean, stddev, 2.0, dtype)


@not_converted
def permutation(count: Any, seed: Any) -> tf.Tensor:
    """Return the numbers 0 to count - 1 in a random order, as int32.

    Args:
        count: How many; a number or a scalar tensor.
        seed: Two whole numbers.
    """
    known = tf.get_static_value(tf.convert_to_tensor(count))
    if known is not None and not (np.ndim(known) == 0 and known >= 0):
        raise UserError(
            f"the count is {known}", where="random.permutation", fix="Give a whole number."
        )
    # The position in the low bits makes all keys distinct, so every sort gives the same order.
    high = tf.cast(tf.bitwise.right_shift(bits([count], seed), tf.constant(1, tf.uint32)), tf.int64)
    keys = tf.bitwise.left_shift(high, tf.constant(32, tf.int64)) + tf.range(
        tf.cast(count, tf.int64)
    )
    low = tf.bitwise.bitwise_and(tf.sort(keys), tf.constant(2**32 - 1, tf.int64))
    return tf.cast(low, tf.int32)


@not_converted
def shuffle(tensor: tf.Tensor, seed: Any) -> tf.Tensor:
    """Return the rows of a tensor in a random order.

    Args:
        tensor: Of shape [rows, ...].
        seed: Two whole numbers.
    """
    tensor = tf.convert_to_tensor(tensor)
    if tensor.shape.rank == 0:
        raise UserError(
            "a single number has no rows", where="random.shuffle", fix="Give [rows, ...]."
        )
    return tf.gather(tensor, permutation(tf.shape(tensor)[0], seed))


def _of_table(
    name: str, shape: Any, seed: Any, mean: float, stddev: float, cut: float, dtype: Any
) -> tf.Tensor:
    """Look up numbers by 24 bits: octave, segment, and position in the segment."""
    kind = _kind(dtype, tuple(_BITS), name)
    table = _table(_number(mean, "mean", name), _number(stddev, "stddev", name), cut)
    drawn = bits(shape, seed)
    above, below, slopes_above, slopes_below = table
    place = tf.cast(tf.bitwise.right_shift(drawn, tf.constant(8, tf.uint32)), tf.int64)
    floats = tf.bitcast(tf.cast(tf.maximum(place, 1), tf.float32), tf.int32)
    octave = tf.bitwise.right_shift(floats, 23) - 127
    mantissa = tf.bitwise.bitwise_and(floats, 2**23 - 1)
    index = octave * _SEGMENTS + tf.bitwise.right_shift(mantissa, 15)
    inside = tf.cast(tf.bitwise.bitwise_and(tf.bitwise.right_shift(mantissa, 3), 4095), tf.float32)
    upper = tf.equal(tf.bitwise.bitwise_and(tf.bitcast(drawn, tf.int32), 1), 0)
    base = tf.where(upper, tf.gather(above, index), tf.gather(below, index))
    slope = tf.where(upper, tf.gather(slopes_above, index), tf.gather(slopes_below, index))
    # 12 bits by 12: the product is exact, so the result is the same fused or not.
    return tf.cast(base + inside * slope, kind)


@lru_cache(maxsize=64)
def _table(mean: float, stddev: float, cut: float) -> tuple[Any, ...]:
    """Return a distribution's quantiles in both directions, and the slopes between them."""
    edges = np.arange(24 * _SEGMENTS + 1)
    octave, segment = edges // _SEGMENTS, edges % _SEGMENTS
    chance = np.ldexp(1.0 + segment / _SEGMENTS, octave - 24)  # of a value at least this far out
    normal, beyond = NormalDist(), 2 * NormalDist().cdf(-cut) if cut else 0.0
    tail = np.minimum(beyond + chance * (1 - beyond), 1.0) / 2
    far = np.array([-normal.inv_cdf(p) if p < 0.5 else 0.0 for p in tail])
    found = []
    for values in (mean + stddev * far, mean - stddev * far):
        found.append((values[:-1].astype(np.float32), _short(np.diff(values) / 4096)))
    (above, rising), (below, falling) = found
    return above, below, rising, falling


def _short(values: np.ndarray) -> np.ndarray:
    """Round to 12 significant bits."""
    mantissa, exponent = np.frexp(values)
    short: np.ndarray = np.ldexp(np.round(mantissa * 4096) / 4096, exponent).astype(np.float32)
    return short


def _seed(seed: Any) -> tf.Tensor:
    try:
        found = tf.convert_to_tensor(seed)
        what = f"a {found.dtype.name} of shape {found.shape}"
        right = found.dtype.is_integer and found.shape.is_compatible_with([2])
    except (TypeError, ValueError):
        found, what, right = None, f"a {type(seed).__name__}", False
    if not right:
        raise UserError(
            f"the seed is {what}",
            where="framework.random",
            fix="Give two whole numbers: self.step_seed(0) in a step, what augment was given, or "
            "[seed, number].",
        )
    return tf.cast(found, tf.int64)


def _shape(shape: Any) -> tf.Tensor:
    scalar = isinstance(shape, (list, tuple)) and not shape
    try:
        found = tf.convert_to_tensor(shape, tf.int32 if scalar else None)
        known = tf.get_static_value(found)
        right = found.dtype in (tf.int32, tf.int64) and found.shape.rank in (1, None)
        right = right and (known is None or bool(np.all(known >= 0)))
    except (TypeError, ValueError):
        found, right = None, False
    if not right:
        raise UserError(
            f"the shape is {shape!r}",
            where="framework.random",
            fix="Give a list of whole numbers, [32, 10], or tf.shape(x).",
        )
    return found


def _kind(dtype: Any, choices: tuple[tf.DType, ...], name: str) -> tf.DType:
    try:
        found = tf.as_dtype(dtype)
    except TypeError:
        found = None
    if found not in choices:
        raise UserError(
            f"the dtype is {dtype if found is None else found.name}",
            where=f"random.{name}",
            fix=f"Give {', '.join(each.name for each in choices)}.",
        )
    return found


def _number(value: Any, what: str, name: str) -> float:
    known = tf.get_static_value(tf.convert_to_tensor(value))
    if known is None or np.ndim(known) or not np.isfinite(known):
        raise UserError(
            f"{what} is {'a tensor' if tf.is_tensor(value) else repr(value)}",
            where=f"random.{name}",
            fix="Give a number, and scale the result with tensors instead: "
            "low + (high - low) * random.uniform(shape, seed).",
        )
    return float(value) if not tf.is_tensor(value) else float(known)
