"""Sets that are read by row numbers. Without TensorFlow: processes that read them import this."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


class ByList:
    """Rows that are read by a list of their numbers."""

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> Any:
        return self.x[rows], self.y[rows]


class OneByOne(ByList):
    """Rows that are read one at a time, as plain Python numbers."""

    def __getitem__(self, row: Any) -> Any:
        return self.x[row].tolist() if isinstance(row, int) else {}[row], np.int64(self.y[row])


class Fails(ByList):
    """Cannot read row 30."""

    def __getitem__(self, rows: Any) -> Any:
        if 30 in np.atleast_1d(rows):
            raise ValueError("row 30 is damaged")
        return super().__getitem__(rows)


class Dies(ByList):
    """Ends a process that reads row 30, other than the one that created it."""

    def __init__(self, *arrays: np.ndarray) -> None:
        super().__init__(*arrays)
        self.home = os.getpid()

    def __getitem__(self, rows: Any) -> Any:
        if 30 in np.atleast_1d(rows) and os.getpid() != self.home:
            os.kill(os.getpid(), 9)
        return super().__getitem__(rows)


class Shrinks(ByList):
    """Has fewer rows every time somebody asks."""

    def __len__(self) -> int:
        self.x = self.x[:-1]
        return len(self.x)


class Padded:
    """Texts as lists of numbers of several lengths, padded to the longest of each batch."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, rows: Any) -> Any:
        if isinstance(rows, int):
            return np.ones(1 + rows % 5), np.int64(rows)
        width = 1 + max(row % 5 for row in rows)
        lengths = 1 + np.asarray(rows)[:, None] % 5
        return (np.arange(width) < lengths).astype("float64"), np.asarray(rows)
