"""The order of the trials, against a machine whose limits are known."""

from __future__ import annotations

from typing import Any

import pytest

from framework.cli.batch_size_find import Trial, _search


class Machine:
    """Fits `limit` rows, trains on `rows` of them, and gets faster up to `fastest`."""

    def __init__(self, limit: int, rows: int | None = None, fastest: int = 10**9) -> None:
        self.limit, self.rows, self.fastest, self.sizes = limit, rows, fastest, list[int]()

    def run(self, size: int) -> Trial:
        self.sizes.append(size)
        rate = float(min(size, self.fastest))
        return Trial(size, size <= self.limit, rate=rate, rows=self.rows)


def search(machine: Any, size: int, by: str = "memory", most: int | None = None) -> list[int]:
    trials = _search(machine, {"by": by, "max": most}, size)
    assert [trial.size for trial in trials] == machine.sizes
    return [trial.size for trial in trials if trial.fits]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 31, 32, 33, 100, 1000, 12345])
@pytest.mark.parametrize("size", [1, 32, 3000])
def test_by_memory_the_answer_is_within_an_eighth_of_the_limit(limit: int, size: int) -> None:
    machine = Machine(limit)
    best = max(search(machine, size))
    assert best <= limit < best + max(2, best // 8 + 1)
    assert len(machine.sizes) == len(set(machine.sizes)) <= 16 + 4


def test_it_stops_at_the_rows_or_the_maximum() -> None:
    assert search(Machine(10**9, rows=200), 32) == [32, 64, 128, 200]
    assert search(Machine(10**9, rows=200), 32, most=100) == [32, 64, 100]


def test_nothing_fits() -> None:
    machine = Machine(0)
    assert search(machine, 6) == []
    assert machine.sizes == [6, 3, 1]


def test_by_throughput_it_stops_where_a_larger_batch_is_no_faster() -> None:
    assert search(Machine(10**9, fastest=100), 16, by="throughput") == [16, 32, 64, 128, 256]
    machine = Machine(100)
    assert search(machine, 16, by="throughput") == [16, 32, 64]
    assert machine.sizes[-1] == 128
