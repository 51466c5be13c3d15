"""Names of precisions that others use are answered with ours."""

from __future__ import annotations

import pytest

from framework import UserError
from framework.config import PRECISIONS, TrainerConfig


@pytest.mark.parametrize(
    ("given", "right"),
    [("fp16", "mixed_float16"), ("16", "mixed_float16"), ("16-mixed", "mixed_float16"),
     ("float16", "mixed_float16"), ("bf16", "mixed_bfloat16"), ("bfloat16", "mixed_bfloat16"),
     ("bf16-mixed", "mixed_bfloat16"), ("32", "float32"), ("double", "float64"),
     (16, "mixed_float16"),
     ("float17", "mixed_float16"), ("bfloat17", "mixed_bfloat16"), ("float46", "float64")],
)  # fmt: skip
def test_precisions_by_their_other_names(given: object, right: str) -> None:
    with pytest.raises(UserError) as caught:
        TrainerConfig.of({"precision": given})
    assert caught.value.fix.startswith(f"Did you mean '{right}'?")
    assert all(name in caught.value.fix for name in PRECISIONS)


@pytest.mark.parametrize("given", ["float8", "fp8", "posit"])
def test_a_precision_that_is_near_to_none_or_to_several_gets_the_list_alone(given: str) -> None:
    with pytest.raises(UserError) as caught:
        TrainerConfig.of({"precision": given})
    assert caught.value.fix == f"Choose one of: {', '.join(PRECISIONS)}."
