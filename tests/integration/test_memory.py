"""A CIFAR-100 run holds its images once or twice, as they are stored, and never as floats."""

from __future__ import annotations

from benchmarks import memory


def test_a_run_needs_at_most_three_times_the_data_set_above_the_bare_model() -> None:
    base, run = memory.measure(steps=10)
    # Both the arrays and their tensors are alive, so less than that would be no measurement.
    assert run > base + memory.DATA_BYTES
    assert run <= base + memory.BAR * memory.DATA_BYTES
