"""Fractions as they are written."""

from __future__ import annotations

from fractions import Fraction


def exact(fraction: float) -> Fraction:
    """Return a fraction as it is written: 0.07 of 100 is 7, though 100 * 0.07 is a little more."""
    return Fraction(repr(float(fraction)))
