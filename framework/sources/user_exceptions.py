"""Checks the batches of user code on TensorFlow's threads, and reports its exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import tensorflow as tf

from framework.core.user_code import describe, user_code
from framework.errors import UserError
from framework.sources.rows_axis import rows_open


class Guard:
    """Record exceptions of user code on TensorFlow's threads, which would lose them.

    Example:
        >>> guard = Guard("the train generator", "train")
        >>> with guard.retold():         # on the host: raises the recorded exception
        ...     read_from_tensorflow()   # on its thread: with guard.noting(): batch = next(user)
    """

    def __init__(self, what: str, name: str, rows_axis: Any = 0) -> None:
        self.what, self.where, self._rows_axis = what, f"data.{name}", rows_axis
        self._noted: UserError | None = None

    @contextmanager
    def blaming(self) -> Iterator[None]:
        """Turn an exception into a `UserError` that names the set and the user's line."""
        try:
            with user_code(self.where):
                yield
        except UserError as error:
            if error.__cause__ is None:
                raise  # the user's own, or ours
            what = f"{self.what} failed: {error.what}"
            raise UserError(what, where=error.where, fix=error.fix) from error.__cause__

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Do the same as `blaming`, and record the error for `retold`."""
        try:
            with self.blaming():
                yield
        except UserError as error:
            self._noted = error
            raise

    @contextmanager
    def retold(self) -> Iterator[None]:
        """Raise the recorded error instead of the one that TensorFlow raises."""
        try:
            yield
        except tf.errors.OpError:
            noted, self._noted = self._noted, None
            if noted is None:
                raise
            raise noted from noted.__cause__

    def check(self, batch: Any, first: Any, specs: list[tf.TensorSpec]) -> list[Any]:
        """Return the leaves of a batch, after checking that it fits the first batch."""
        try:
            tf.nest.assert_same_structure(first, batch)
            leaves = [np.asarray(leaf) for leaf in tf.nest.flatten(batch)]
            same = all(
                spec.shape.is_compatible_with(leaf.shape)
                for leaf, spec in zip(leaves, specs, strict=True)
            )
        except (TypeError, ValueError):
            same = False
        if not same:
            wanted = describe(tf.nest.pack_sequence_as(first, specs))
            found = tf.nest.map_structure(self.spec_of, batch)
            raise UserError(
                f"{self.what} returns a batch of {describe(found)}, after one of {wanted}",
                where=self.where,
                fix=_suggested_signature(first, specs, found),
            )
        return leaves

    def spec_of(self, leaf: Any) -> tf.TensorSpec:
        """Return the spec of a leaf of a batch, which must be a dense tensor."""
        fault = not_dense(leaf)
        if fault:
            what, fix = fault
            raise UserError(f"{self.what} returns {what} in a batch", where=self.where, fix=fix)
        tensor = tf.convert_to_tensor(leaf)
        return tf.TensorSpec(tensor.shape, tensor.dtype)

    def specs(self, first: Any, signature: Any) -> list[tf.TensorSpec]:
        """Return the specs of a set's batches: the signature, else those of the first batch."""
        _refuse_lists(first, self.what, self.where)
        found = rows_open(tf.nest.map_structure(self.spec_of, first), self._rows_axis)
        if signature is None:
            return list(tf.nest.flatten(found))
        try:
            tf.nest.assert_same_structure(found, signature)
            specs = [tf.TensorSpec(s.shape, s.dtype) for s in tf.nest.flatten(signature)]
            fits = all(
                spec.dtype == leaf.dtype and spec.shape.is_compatible_with(leaf.shape)
                for spec, leaf in zip(specs, tf.nest.flatten(found), strict=True)
            )
        except (AttributeError, TypeError, ValueError):
            fits = False
        if not fits:
            raise UserError(
                f"{self.what} returns batches of {describe(found)}, unlike Data's signature",
                where="data.signature",
                fix="Give the structure and types of a batch as tf.TensorSpec(shape, dtype). If "
                "the sets differ, use tf.data.Dataset.from_generator(f, output_signature=...).",
            )
        return specs


def _refuse_lists(batch: Any, what: str, where: str) -> None:
    """Reject lists of Python numbers, since every number would become a separate tensor."""
    leaves = tf.nest.flatten(batch)
    if len(leaves) > 1 and all(isinstance(leaf, (bool, int, float, str)) for leaf in leaves):
        raise UserError(
            f"{what} returns lists of Python numbers",
            where=where,
            fix="Return arrays: np.asarray(x).",
        )


def not_dense(leaf: Any) -> tuple[str, str] | None:
    """Return what a leaf is if it is not a dense tensor, and how to fix it; else None."""
    if leaf is None:
        return "None", "Leave it out: give x, or (x,)."
    if isinstance(leaf, tf.RaggedTensor):
        return "a RaggedTensor", "Make it dense: x.to_tensor()."
    if isinstance(leaf, tf.SparseTensor):
        return "a SparseTensor", "Make it dense: tf.sparse.to_dense(x)."
    if hasattr(leaf, "toarray"):  # SciPy's
        return f"a {type(leaf).__name__}", "Make it dense: x.toarray()."
    return None


def _suggested_signature(first: Any, specs: list[tf.TensorSpec], found: Any) -> str:
    """Return the fix for a batch that differs: a signature that fits both, if there is one."""
    try:
        tf.nest.assert_same_structure(first, found)
        pairs = list(zip(specs, tf.nest.flatten(found), strict=True))
        if any(s.dtype != f.dtype or s.shape.rank != f.shape.rank for s, f in pairs):
            raise ValueError
    except (TypeError, ValueError):
        return "Return batches of the same structure and types as the first."
    common = [
        _Literal(f"tf.TensorSpec({_common(spec.shape, leaf.shape)}, tf.{spec.dtype.name})")
        for spec, leaf in pairs
    ]
    return (
        f"Declare dimensions that vary: "
        f"Data(signature={tf.nest.pack_sequence_as(first, common)!r})."
    )


class _Literal(str):
    """Python code in a nest, printed without quotes."""

    __repr__ = str.__str__


def _common(left: tf.TensorShape, right: tf.TensorShape) -> list[int | None]:
    return [a if a == b else None for a, b in zip(left, right, strict=True)]
