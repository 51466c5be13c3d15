"""Data and steps without data."""

from __future__ import annotations

import pytest

from framework import Steps, UserError


def test_steps_are_one_or_more() -> None:
    for count in (0, -1, 2.5, True, "3"):
        with pytest.raises(UserError, match="Give 1 or more"):
            Steps(count)  # type: ignore[arg-type]
