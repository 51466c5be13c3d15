"""Data and steps without data."""

from __future__ import annotations

import pytest

from framework import Data, Steps, UserError


def test_steps_are_one_or_more() -> None:
    for count in (0, -1, 2.5, True, "3"):
        with pytest.raises(UserError, match="Give 1 or more"):
            Steps(count)  # type: ignore[arg-type]


def test_names_of_classes_are_a_list_of_names() -> None:
    assert Data(class_names=["cat", "dog"]).class_names == ("cat", "dog")
    assert Data().class_names == ()
    for given in ("cat", [1, 2], ["cat", ""], {"cat": 0}, None):
        with pytest.raises(UserError, match="class_names is") as error:
            Data(class_names=given)  # type: ignore[arg-type]
        assert error.value.where == "data.class_names"
