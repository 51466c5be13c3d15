"""Finds NaN and infinity in data."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.errors import UserError

_SCAN = 2**22  # numbers checked at once


def refuse_nan(array: Any, what: str, where: str) -> None:
    """Reject NaN and infinity in a float array, which is checked slice by slice."""
    array = array if isinstance(array, np.ndarray) else np.asarray(array)
    if not np.issubdtype(array.dtype, np.floating):
        return
    bad: list[int] = []
    chunk = max(1, _SCAN // max(1, array[:1].size))
    for start in range(0, len(array), chunk):
        piece = array[start : start + chunk]
        finite = np.isfinite(piece.reshape(len(piece), -1)).all(axis=1)
        bad.extend((start + np.flatnonzero(~finite)).tolist())
    if bad:
        raise UserError(
            f"{what} has NaN or infinity in {len(bad):,} of {len(array):,} rows, "
            f"first in row {bad[0]:,}",
            where=where,
            fix="Drop those rows or fill the gaps before training.",
        )
