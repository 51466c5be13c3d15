"""What the user's code gives TensorFlow's threads, guarded: its faults and its batches."""

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
    """Keeps what the user's code raises on TensorFlow's threads, where an exception is lost.

    Example:
        >>> guard = Guard("the train generator", "train")
        >>> with guard.retold():         # on the host: raises what was noted, for TensorFlow's
        ...     read_from_tensorflow()   # on its thread: with guard.noting(): batch = next(user)

    Args:
        what: What to call that code in messages.
        name: The set's name: `train`, `val`, …
        rows_axis: Which axis holds a batch's rows, the number of which varies; see `Data`.
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
        """Do the same, and keep it for `retold`."""
        try:
            with self.blaming():
                yield
        except UserError as error:
            self._noted = error
            raise

    @contextmanager
    def retold(self) -> Iterator[None]:
        """Raise what was noted in the place of what TensorFlow makes of it."""
        try:
            yield
        except tf.errors.OpError:
            noted, self._noted = self._noted, None
            if noted is None:
                raise
            raise noted from noted.__cause__

    def check(self, batch: Any, first: Any, specs: list[tf.TensorSpec]) -> list[Any]:
        """Return the leaves of a batch that is built like the first one, else refuse it."""
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
                f"{self.what} gives a batch of {describe(found)}, after one of {wanted}",
                where=self.where,
                fix=_way_out(first, specs, found),
            )
        return leaves

    def spec_of(self, leaf: Any) -> tf.TensorSpec:
        """Return the spec of a batch's leaf.

        Raises:
            UserError: It is no tensor.
        """
        fault = not_dense(leaf)
        if fault:
            what, fix = fault
            raise UserError(f"{self.what} gives {what} in a batch", where=self.where, fix=fix)
        tensor = tf.convert_to_tensor(leaf)
        return tf.TensorSpec(tensor.shape, tensor.dtype)

    def specs(self, first: Any, signature: Any) -> list[tf.TensorSpec]:
        """Return the specs of a set's batches: as they are given, else those of the first batch.

        Raises:
            UserError: The first batch is not what the signature says.
        """
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
                f"{self.what} gives batches of {describe(found)}, not of Data's signature",
                where="data.signature",
                fix="Give the structure and types of a batch, as tf.TensorSpec(shape, dtype); a "
                "set of other batches as tf.data.Dataset.from_generator(f, output_signature=...).",
            )
        return specs


def _refuse_lists(batch: Any, what: str, where: str) -> None:
    """Refuse rows that are lists of Python numbers, each of which would be a tensor of its own."""
    leaves = tf.nest.flatten(batch)
    if len(leaves) > 1 and all(isinstance(leaf, (bool, int, float, str)) for leaf in leaves):
        raise UserError(
            f"{what} gives lists of Python numbers", where=where, fix="Give arrays: np.asarray(x)."
        )


def not_dense(leaf: Any) -> tuple[str, str] | None:
    """Return what a part of a batch is that is no dense tensor, and what to give for it."""
    if leaf is None:
        return "None", "Leave it out: give x, or (x,)."
    if isinstance(leaf, tf.RaggedTensor):
        return "a RaggedTensor", "Make it dense: x.to_tensor()."
    if isinstance(leaf, tf.SparseTensor):
        return "a SparseTensor", "Make it dense: tf.sparse.to_dense(x)."
    if hasattr(leaf, "toarray"):  # SciPy's
        return f"a {type(leaf).__name__}", "Make it dense: x.toarray()."
    return None


def _way_out(first: Any, specs: list[tf.TensorSpec], found: Any) -> str:
    """Return what to do where a batch differs from the first: the signature of both, if any."""
    try:
        tf.nest.assert_same_structure(first, found)
        pairs = list(zip(specs, tf.nest.flatten(found), strict=True))
        if any(s.dtype != f.dtype or s.shape.rank != f.shape.rank for s, f in pairs):
            raise ValueError
    except (TypeError, ValueError):
        return "Give every batch the structure and types of the first."
    common = [
        _Literal(f"tf.TensorSpec({_common(spec.shape, leaf.shape)}, tf.{spec.dtype.name})")
        for spec, leaf in pairs
    ]
    return (
        f"Say which dimensions vary: Data(signature={tf.nest.pack_sequence_as(first, common)!r})."
    )


class _Literal(str):
    """Python in a nest that is printed as Python."""

    __repr__ = str.__str__


def _common(left: tf.TensorShape, right: tf.TensorShape) -> list[int | None]:
    return [a if a == b else None for a, b in zip(left, right, strict=True)]
