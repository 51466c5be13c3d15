"""Reads rows of a set by their numbers. Imports no TensorFlow: processes that only read use it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from framework.errors import UserError


class RowReader:
    """Read rows of a set that has a length and an index, as one batch of NumPy arrays.

    A set that takes a list of numbers is asked once for a batch. From any other, rows are read one
    by one and stacked. Which of the two it is, is found out once, by reading its first row twice.

    Example:
        >>> read = RowReader(Squares())          # Squares()[[2, 3]] is {"square": [4, 9]}
        >>> read([2, 3])
        {'square': array([4, 9])}

    Args:
        rows: The set, with at least one row.
    """

    def __init__(self, rows: Any) -> None:
        self.rows, self.whole = with_arrays(rows), True
        one = arrays_of(self.rows[0])
        try:
            self.whole = _fits(arrays_of(self.rows[[0, 0]]), one)
        except Exception:
            self.whole = False

    def __call__(self, numbers: Sequence[int]) -> Any:
        """Return these rows as a batch: a nest of arrays."""
        if self.whole:
            return arrays_of(self.rows[list(map(int, numbers))])
        return stacked([arrays_of(self.rows[int(number)]) for number in numbers])


def with_arrays(rows: Any) -> Any:
    """Return a set of Hugging Face in its NumPy format, which keeps its types; others as they are.

    One with a format of its own, such as a transform, is left as it is.
    """
    if hasattr(rows, "with_format") and (getattr(rows, "format", None) or {}).get("type") is None:
        return rows.with_format("numpy")
    return rows


def arrays_of(nest: Any) -> Any:
    """Return a nest of tuples and dicts with arrays as its leaves; lists become arrays.

    Python's floats become float32, as in Keras.
    """
    return _mapped(_array, nest)


def stacked(rows: Sequence[Any]) -> Any:
    """Return rows as one batch."""
    return _mapped(_stack, *rows)


def _stack(*leaves: Any) -> Any:
    if leaves[0] is None:
        return None  # refused with the batch, by name
    if len(shapes := {np.shape(leaf) for leaf in leaves}) > 1:
        raise _uneven(" and ".join(map(str, sorted(shapes)[:3])))
    return np.stack(leaves)


def _uneven(shapes: str) -> UserError:
    return UserError(
        f"rows of one batch differ in shape: {shapes}",
        where="a set that is read by row numbers",
        fix="Pad them to one shape; or let the set return whole, padded batches for a list of row "
        "numbers, with Data(signature=...) if their widths vary.",
    )


def _mapped(function: Callable[..., Any], *nests: Any) -> Any:
    first = nests[0]
    if isinstance(first, Mapping):
        return {key: _mapped(function, *(nest[key] for nest in nests)) for key in first}
    if isinstance(first, tuple):
        parts = [_mapped(function, *each) for each in zip(*nests, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else tuple(parts)
    return function(*nests)


def _array(leaf: Any) -> Any:
    if leaf is None:
        return None
    if isinstance(leaf, (list, float)):
        try:
            found = np.asarray(leaf)
        except ValueError:
            raise _uneven("lists of several lengths") from None
        return found.astype(np.float32) if found.dtype == np.float64 else found
    return np.asarray(leaf)


def _fits(batch: Any, one: Any) -> bool:
    """Whether a batch has the structure of a row, with one more axis of length 2."""
    alike: list[bool] = []

    def compare(many: Any, single: Any) -> None:
        alike.append(np.shape(many) == (2, *np.shape(single)))

    _mapped(compare, batch, one)
    return bool(alike) and all(alike)
