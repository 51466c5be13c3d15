"""What is told of the converter's messages."""

from __future__ import annotations

from framework.serving.litert_file import reason_and_place

CALL = 'fused["StatefulPartitionedCall:", "StatefulPartitionedCall@__inference_wrapper_9"]'
SAID = (
    f"""\
<unknown>:0: error: loc(callsite(fused["BatchMatMulV3:", "net/dense_1/MatMul@__inference_by_name_6"]
 at callsite({CALL} at {CALL}))): 'tfl.fully_connected' op operand #0 must be tensor of 32-bit
 float, but got 'tensor<?x12xi8>'
""".replace("\n ", " ")
    + f"<unknown>:0: note: loc({CALL}): called from\n"
)


def test_an_operation_of_other_types_is_named_with_its_layer() -> None:
    reason, place = reason_and_place(SAID)
    assert place == "net/dense_1/MatMul"
    assert reason.startswith("'tfl.fully_connected' op operand #0 must be")
    assert reason.endswith("but got 'tensor<?x12xi8>'")
    assert reason_and_place("out of memory") == ("out of memory", "")
