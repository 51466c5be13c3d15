"""The function from raw inputs to predictions: `Data.map`, then the task's `predict_step`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from framework.core.dtypes import to_float32
from framework.core.nests import named_leaves
from framework.errors import UserError
from framework.sources.arrays import LARGE_BYTES, LARGE_ROWS
from framework.sources.inputs import Inputs

Arrays = dict[str, np.ndarray]
_ALONE = "inputs", "predictions"  # the names of a single input and a single output

_OPEN = (
    "Return one row for each example, of any number: leave it open with tf.shape(x)[0], with -1 in "
    "a reshape, and with None in shapes."
)


@dataclass(frozen=True)
class Answers:
    """A compiled function from raw inputs, by name, to predictions, by name.

    Attributes:
        inputs: What the predictions depend on, of any number of rows. A label is not among it.
        outputs: The predictions; 16-bit floats have become float32.
        answer: From tensors by name to tensors by name, in a graph.
        function: The same, compiled for any number of rows.
        nest: The predictions' nest, as `predict_step` returns it, with their names as leaves.
        places: Where the inputs are among the leaves of a raw batch, by name.
    """

    inputs: Mapping[str, tf.TensorSpec]
    outputs: Mapping[str, tf.TensorSpec]
    answer: Callable[..., dict[str, tf.Tensor]]
    function: Any
    nest: Any
    places: Mapping[str, int]

    @classmethod
    def of(cls, step: Callable[[Any], Any], inputs: Inputs, where: str) -> Answers:
        """Trace a `predict_step`.

        Args:
            step: From a batch to a nest of tensors.
            inputs: What a raw batch is.
            where: The name of the step, for messages.

        Raises:
            UserError: It does not work on any number of rows.
        """
        specs = tf.nest.flatten(inputs.raw)

        def answer(*leaves: tf.Tensor) -> Any:
            made = step(inputs.mapped(tf.nest.pack_sequence_as(inputs.raw, leaves)))
            return tf.nest.map_structure(to_float32, made)

        traced = _traced(answer, specs, where)
        used = _used(traced, len(specs))
        names = _input_names(inputs.raw, used)
        answered = traced.structured_outputs
        places = [re.sub(r"\W", "_", name) for name, _ in named_leaves(answered, _ALONE[1])]
        leaves = [leaf for _, leaf in named_leaves(answered, _ALONE[1])]
        _check_rows(leaves, where)

        def by_name(**given: tf.Tensor) -> dict[str, tf.Tensor]:
            rows = tf.shape(next(iter(given.values())))[0]
            whole = [
                given[names[i]] if i in names else _unused(spec, rows)
                for i, spec in enumerate(specs)
            ]
            found = [leaf for _, leaf in named_leaves(answer(*whole), _ALONE[1])]
            return dict(zip(places, map(tf.convert_to_tensor, found), strict=True))

        signature = {
            name: tf.TensorSpec(specs[i].shape, specs[i].dtype, name=name)
            for i, name in names.items()
        }
        outputs = {
            name: tf.TensorSpec(leaf.shape, leaf.dtype, name=name)
            for name, leaf in zip(places, leaves, strict=True)
        }
        compiled = tf.function(by_name, autograph=False).get_concrete_function(**signature)
        nest = _renamed(answered, iter(places))
        found = {name: i for i, name in names.items()}
        return cls(signature, outputs, by_name, compiled, nest, found)

    def named(self, given: Any) -> Arrays:
        """Return raw inputs by name, as arrays of the right types, after checking them.

        Raises:
            UserError: There are others, or they have other shapes.
        """
        if not isinstance(given, Mapping):
            rows = given if isinstance(given, tuple) and len(self.inputs) > 1 else (given,)
            if len(rows) != len(self.inputs):
                raise self._refused(f"there are {len(rows)} inputs instead of {len(self.inputs)}")
            given = dict(zip(self.inputs, rows, strict=True))
        if set(given) != set(self.inputs):
            raise self._refused(f"there are {', '.join(map(str, given)) or 'no inputs'}")
        arrays = {name: self._array(name, given[name]) for name in self.inputs}
        if len({len(array) for array in arrays.values()}) > 1:
            counts = ", ".join(f"{name}: {len(array):,}" for name, array in arrays.items())
            raise self._refused(f"the inputs differ in their number of rows ({counts})")
        return arrays

    def taken_from(self, batch: Any) -> Arrays:
        """Return the inputs in a raw batch, by name."""
        leaves = tf.nest.flatten(batch)
        return self.named({name: np.asarray(leaves[i]) for name, i in self.places.items()})

    def rows_at_once(self) -> int:
        """Return how many rows to give the function at a time."""
        row: int = sum(
            s.dtype.size * (s.shape[1:].num_elements() or 1) for s in self.inputs.values()
        )
        return max(1, min(LARGE_ROWS, LARGE_BYTES // max(1, row)))

    def __call__(self, given: Arrays) -> Arrays:
        """Return the predictions for rows that `named` has checked, a part at a time."""
        rows, size = len(next(iter(given.values()))), self.rows_at_once()
        parts = []
        for start in range(0, rows, size):
            part = {name: array[start : start + size] for name, array in given.items()}
            parts.append(self.of_part(part))
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}

    def of_part(self, given: Arrays) -> Arrays:
        """Return the predictions for a few rows, in one call."""
        tensors = {k: tf.constant(v, self.inputs[k].dtype) for k, v in given.items()}
        return {name: found.numpy() for name, found in self.function(**tensors).items()}

    def packed(self, found: Arrays) -> Any:
        """Return predictions in the nest of `predict_step`."""
        return tf.nest.map_structure(lambda name: found[name], self.nest)

    def _array(self, name: str, given: Any) -> np.ndarray:
        spec, array = self.inputs[name], np.asarray(given)
        if not spec.shape.is_compatible_with(array.shape) or not len(array):
            raise self._refused(f"{name} has the shape {array.shape}")
        wanted = np.dtype(spec.dtype.as_numpy_dtype)
        if array.dtype != wanted and wanted.kind != "O":
            if not np.can_cast(array.dtype, wanted, "same_kind") and array.dtype.kind != "i":
                raise self._refused(f"{name} is {array.dtype}")
            cast = array.astype(wanted)
            if wanted.kind in "iu" and not np.array_equal(cast, array):
                raise self._refused(f"{name} has values that {wanted} does not hold")
            return cast
        return array

    def _refused(self, what: str) -> UserError:
        wanted = ", ".join(
            f"{name}: {spec.dtype.name} of shape "
            + str(tuple("rows" if i == 0 else n for i, n in enumerate(spec.shape.as_list())))
            for name, spec in self.inputs.items()
        )
        return UserError(
            what, where="predict", fix=f"The task takes {wanted}".replace("'", "") + "."
        )


def _traced(function: Callable[..., Any], specs: list[tf.TensorSpec], where: str) -> Any:
    compiled = tf.function(function, autograph=False)
    try:
        return compiled.get_concrete_function(*specs)
    except UserError:
        raise
    except Exception as error:
        fixed = [tf.TensorSpec([2, *s.shape[1:]], s.dtype) for s in specs]
        reason = str(error).strip().splitlines()[-1]
        try:
            compiled.get_concrete_function(*fixed)
        except Exception:
            what, fix = f"predict_step fails: {reason}", "Correct it there."
        else:
            what = f"the model needs a batch of a fixed size: {reason}"
            fix = _OPEN
        raise UserError(what, where=where, fix=fix) from error


def _check_rows(leaves: list[Any], where: str) -> None:
    for leaf in leaves:
        shape = leaf.shape
        if not shape.rank or shape[0] is not None:
            known = str(tuple(shape.as_list())) if shape.rank is not None else "unknown"
            fixed = "the model needs a batch of a fixed size: " if shape.rank else ""
            raise UserError(
                f"{fixed}predict_step returns a tensor of shape {known}, whatever the number of "
                "rows",
                where=where,
                fix=_OPEN,
            )


def _used(traced: Any, count: int) -> list[int]:
    """Return which arguments of a traced function its outputs depend on."""
    met: set[Any] = set()
    left = [tensor.op for tensor in traced.outputs]
    while left:
        operation = left.pop()
        if operation not in met:
            met.add(operation)
            left += [tensor.op for tensor in operation.inputs]
    return [i for i, tensor in enumerate(traced.inputs[:count]) if tensor.op in met]


def _input_names(raw: Any, used: list[int]) -> dict[int, str]:
    """Return the names of the arguments that are used, by place."""
    places = dict(enumerate(tf.nest.flatten(_paths(raw))))
    if len(used) == 1 and not re.search("[a-zA-Z]", places[used[0]]):
        return {used[0]: _ALONE[0]}
    parts = {places[i].partition("/")[0] for i in used}
    if len(parts) == 1 and parts.pop().isdigit():  # the inputs of (inputs, labels) are a dict
        places = {i: place.partition("/")[2] or place for i, place in places.items()}
    names = {i: re.sub(r"\W", "_", places[i]) for i in used}
    return {i: name if name[0].isalpha() else f"{_ALONE[0]}_{name}" for i, name in names.items()}


def _paths(nest: Any) -> Any:
    return _renamed(nest, iter([name for name, _ in named_leaves(nest, _ALONE[0])]))


def _renamed(nest: Any, names: Any) -> Any:
    """Return a nest with its leaves replaced, in the order in which it is written down."""
    if isinstance(nest, Mapping):
        return {key: _renamed(value, names) for key, value in nest.items()}
    if isinstance(nest, (tuple, list)):
        return type(nest)([_renamed(value, names) for value in nest])
    return next(names)


def _unused(spec: tf.TensorSpec, rows: tf.Tensor) -> tf.Tensor:
    shape = [rows, *(1 if n is None else n for n in spec.shape[1:])]
    return tf.zeros(shape, spec.dtype)
