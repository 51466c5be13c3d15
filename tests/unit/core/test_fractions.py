"""A fraction is what is written, not what floating point makes of it."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from framework.sources.source import limited


@given(st.integers(1, 500), st.integers(1, 999))
def test_a_fraction_is_what_is_written(total: int, thousandths: int) -> None:
    assert limited(total, thousandths / 1000) == math.ceil(Fraction(thousandths, 1000) * total)
