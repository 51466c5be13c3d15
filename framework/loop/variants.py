"""The variants of the compiled loop, and why a step may not support one of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tensorflow as tf

from framework.compat import lowered
from framework.core.graphs import operations
from framework.devices.replicas import Replicas
from framework.sources.source import Source

COMPILED = ("graph", "step_xla", "loop_xla")
"""All variants but `eager`: a TensorFlow graph, each step in it with XLA, or all with XLA."""

_UNSUPPORTED = re.compile(r"Detected unsupported operations .*?: (\w+) \(", re.DOTALL)
_NOT_TOLD = re.compile(r"Graph execution error|Detected at node|<stack traces")
# Operations that change only variables, or that behave the same under XLA.
_REPEATABLE = re.compile(
    r"(Read|Assign|AssignAdd|AssignSub)VariableOp|Resource\w+|VarHandleOp|VarIsInitializedOp|"
    r"VariableShape|LookupTable(Find|Size)V2|\w*PartitionedCall|(Stateless)?(While|If|Case)|Assert|Rng\w+"
)

# Functions of a seed that XLA computes differently than TensorFlow.
_DRAWN_BY_ENGINE = {
    f"Stateless{kind}{version}"
    for kind in (
        "RandomNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal", "RandomGamma",
        "RandomPoisson", "RandomBinomial", "Multinomial", "ParameterizedTruncatedNormal",
    )
    for version in ("", "V2", "V3")
}  # fmt: skip

_DRAWS = re.compile(r"Random|TruncatedNormal|ParameterizedTruncatedNormal|Multinomial")


class CannotCompile(Exception):
    """A step that XLA cannot compile, or not with the same result; the message says why."""


def check_place(variant: str, source: Source, replicas: Replicas) -> None:
    """Raise `CannotCompile` if a variant does not support the place of the data or the devices."""
    if variant not in ("step_xla", "loop_xla"):
        return
    if replicas.count > 1:
        raise CannotCompile("several devices share each step")
    if variant == "loop_xla" and not source.resident:
        raise CannotCompile("the data is not on the device, so the loop reads it between steps")
    drawn = source.operations & _DRAWN_BY_ENGINE if variant == "loop_xla" else ()
    if drawn:
        raise CannotCompile(
            f"batches would differ, since {min(drawn)} draws different numbers under XLA; "
            "framework.random does not"
        )


def check_operations(graph: tf.Graph) -> None:
    """Raise `CannotCompile`, with the operation's name, if a graph changes more than variables.

    XLA draws the numbers of `tf.random.normal` and similar operations from its own generator,
    which cannot be restored: a resumed run would differ from an uninterrupted one.
    """
    for operation in operations(graph):
        if operation.op_def.is_stateful and not _REPEATABLE.fullmatch(operation.type):
            if draws_by_itself(operation):
                raise CannotCompile(
                    f"the numbers of {operation.type} could not be repeated; use keras.random or "
                    "tf.random.stateless_…"
                )
            raise CannotCompile(f"{operation.type} does more than change variables")


def check_lowering(step: Any) -> None:
    """Raise `CannotCompile` if XLA lacks an operation of a concrete function; nothing is run."""
    specs = [
        tf.TensorSpec([n or _SOME_ROWS for n in spec.shape], spec.dtype)
        for spec in tf.nest.flatten(step.structured_input_signature)
    ]
    with cannot_compile():
        lowered(step, specs)


@contextmanager
def cannot_compile() -> Iterator[None]:
    """Convert XLA's errors in the body to `CannotCompile`, with the operation's name."""
    try:
        yield
    except (ValueError, tf.errors.OpError) as error:
        found = _UNSUPPORTED.search(str(error))
        if found and found[1] == "_Arg":
            raise CannotCompile("XLA does not support strings, and the batch has some") from error
        if found:
            raise CannotCompile(f"XLA has no {found[1]}") from error
        lines = [line.strip() for line in str(error).splitlines()]
        told = [line for line in lines if line and not _NOT_TOLD.match(line)]
        raise CannotCompile((told or [type(error).__name__])[0][:200]) from error


_SOME_ROWS = 8  # instead of a length that is unknown before the first batch


def draws_by_itself(operation: tf.Operation) -> bool:
    """Return whether an operation draws random numbers from a state that cannot be read."""
    return bool(operation.op_def.is_stateful and _DRAWS.match(operation.type))
