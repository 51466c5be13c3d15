"""The ways to compile the loop, and why a step may not suit one of them."""

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
"""All but `eager`: TensorFlow's graph; each step by XLA inside of that; the whole loop by XLA."""

_UNSUPPORTED = re.compile(r"Detected unsupported operations .*?: (\w+) \(", re.DOTALL)
_NOT_TOLD = re.compile(r"Graph execution error|Detected at node|<stack traces")
# What changes nothing but variables, or nothing that XLA does not change alike.
_REPEATABLE = re.compile(
    r"(Read|Assign|AssignAdd|AssignSub)VariableOp|Resource\w+|VarHandleOp|VarIsInitializedOp|"
    r"VariableShape|LookupTable(Find|Size)V2|\w*PartitionedCall|(Stateless)?(While|If|Case)|Assert|Rng\w+"
)

# Functions of a seed, which XLA computes in another way than TensorFlow does.
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
    """A step that XLA cannot compile, or not to the same effect; says why in a few words."""


def check_place(variant: str, source: Source, replicas: Replicas) -> None:
    """Refuse a variant for where the data or the devices are.

    Raises:
        CannotCompile: They are not where the variant needs them.
    """
    if variant not in ("step_xla", "loop_xla"):
        return
    if replicas.count > 1:
        raise CannotCompile("several devices share each step")
    if variant == "loop_xla" and not source.resident:
        raise CannotCompile("the data are not on the device, so the loop reads them between steps")
    drawn = source.operations & _DRAWN_BY_ENGINE if variant == "loop_xla" else ()
    if drawn:
        raise CannotCompile(
            f"batches would be others, since XLA makes other numbers of {min(drawn)}; those of "
            "framework.random are the same"
        )


def check_operations(graph: tf.Graph) -> None:
    """Refuse a step that changes more than variables.

    XLA draws the numbers of `tf.random.normal` and the like from a generator of its own, which
    nothing can repeat: a run cut in two would no longer be the same run.

    Args:
        graph: The step's, or that of the loop around it.

    Raises:
        CannotCompile: There is such an operation; its name.
    """
    for operation in operations(graph):
        if operation.op_def.is_stateful and not _REPEATABLE.fullmatch(operation.type):
            if draws_by_itself(operation):
                raise CannotCompile(
                    f"the numbers of {operation.type} could not be repeated; those of "
                    "keras.random and tf.random.stateless_… can"
                )
            raise CannotCompile(f"{operation.type} does more than change variables")


def check_lowering(step: Any) -> None:
    """Refuse a step that XLA has no kernel for, without compiling or running it.

    Args:
        step: A concrete function.

    Raises:
        CannotCompile: There is an operation that XLA cannot compile; its name.
    """
    specs = [
        tf.TensorSpec([n or _SOME_ROWS for n in spec.shape], spec.dtype)
        for spec in tf.nest.flatten(step.structured_input_signature)
    ]
    with cannot_compile():
        lowered(step, specs)


@contextmanager
def cannot_compile() -> Iterator[None]:
    """Turn what XLA raises in the body into `CannotCompile`, with the operation's name."""
    try:
        yield
    except (ValueError, tf.errors.OpError) as error:
        found = _UNSUPPORTED.search(str(error))
        if found and found[1] == "_Arg":
            raise CannotCompile("XLA takes no strings, and the batch has some") from error
        if found:
            raise CannotCompile(f"XLA has no {found[1]}") from error
        lines = [line.strip() for line in str(error).splitlines()]
        told = [line for line in lines if line and not _NOT_TOLD.match(line)]
        raise CannotCompile((told or [type(error).__name__])[0][:200]) from error


_SOME_ROWS = 8  # in the place of a length that is not known before a batch has come


def draws_by_itself(operation: tf.Operation) -> bool:
    """Tell whether an operation draws random numbers from a state that nobody can read."""
    return bool(operation.op_def.is_stateful and _DRAWS.match(operation.type))
