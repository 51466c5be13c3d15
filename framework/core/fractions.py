"""Exact fractions from decimal numbers."""

from __future__ import annotations

from fractions import Fraction


def exact(fraction: float) -> Fraction:
    """Return a fraction as written: 0.07 of 100 is 7, although 100 * 0.07 is slightly more."""
    return Fraction(repr(float(fraction)))
