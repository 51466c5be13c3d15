"""Brings streams to the position of an earlier process, to resume a run exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import keras
import tensorflow as tf

from framework.compat import dataset_functions, dataset_inputs, operation_definition
from framework.errors import UserError

# Called before an epoch is read. Arguments: the epoch, the previous iterator if it was never read,
# the dataset that an epoch reads, and a function to call regularly while reading.
BeforeEpoch = Callable[[int, Any, tf.data.Dataset, Callable[[], None]], None]

_SHUFFLES = ("ShuffleDataset", "ShuffleAndRepeatDataset")
_DRAWING = (*_SHUFFLES, "RandomDataset")


def passing(dataset: tf.data.Dataset) -> BeforeEpoch:
    """Return a function that makes a dataset produce the order of its n-th iteration.

    A dataset that shuffles has a different order in each iteration. A new process repeats the
    earlier iterations: it creates their iterators, which costs nothing, or, if the dataset shuffles
    within a repetition, an interleaving or a cache, it reads them completely.

    Example:
        >>> before_epoch = passing(tf.data.Dataset.range(9).shuffle(9, seed=1).batch(3))
        >>> before_epoch(2, None, dataset, check)    # the next iteration has the third order
    """
    read = 0
    whole: bool | None = None

    def before_epoch(
        epoch: int, unread: Any, read_in_epoch: tf.data.Dataset, check: Callable[[], None]
    ) -> None:
        nonlocal read, whole
        if whole is None and epoch:
            whole = _shuffles_within(dataset)
        if whole and epoch and unread is not None:
            _read_all(unread, check)
        while read < epoch:
            iterator = iter(read_in_epoch)
            if whole:
                _read_all(iterator, check)
            read += 1
        read = max(read, epoch + 1)

    return before_epoch


def _read_all(iterator: Any, check: Callable[[], None]) -> None:
    for _ in iterator:
        check()


class EpochHooks:
    """Call a `PyDataset`'s `on_epoch_begin` and `on_epoch_end` as `Model.fit` does.

    A resumed run calls the hooks of the earlier epochs again. `blaming` reports their exceptions.
    If `repeated`, every iteration is an evaluation, with epoch 0.
    """

    def __init__(
        self,
        dataset: keras.utils.PyDataset,
        blaming: Callable[[], AbstractContextManager[None]],
        *,
        repeated: bool = False,
    ) -> None:
        self._dataset, self._blaming, self._repeated = dataset, blaming, repeated
        self._begun = self._ended = 0
        self._length: int | None = dataset.num_batches

    def before_epoch(self, epoch: int, *_: Any) -> None:
        """Call the pending hooks before an epoch is read."""
        if self._repeated:
            epoch = self._begun
        while self._ended < epoch:
            self._begin(self._ended)
            self.after_epoch(self._ended)
        self._begin(epoch)

    def after_epoch(self, epoch: int) -> None:
        """Call `on_epoch_end`, once per epoch."""
        if self._repeated:
            epoch = self._begun - 1
        if self._ended == epoch and self._begun > epoch:
            with self._blaming():
                self._dataset.on_epoch_end()
            self._ended += 1

    def _begin(self, epoch: int) -> None:
        if self._begun > epoch:
            return
        with self._blaming():
            self._dataset.on_epoch_begin()
            length = self._dataset.num_batches
        self._begun += 1
        if length != self._length:
            raise UserError(
                f"the PyDataset had {self._length} batches in an epoch, and now has {length}",
                where=type(self._dataset).__name__,
                fix="Keep the number constant, or give a generator function that takes the epoch: "
                "def batches(epoch).",
            )


def obstacle(dataset: tf.data.Dataset) -> str | None:
    """Return why a run cannot resume exactly with a dataset, or None if it can.

    Example:
        >>> obstacle(tf.data.Dataset.range(9).shuffle(9))
        'it shuffles without a seed'
    """
    if dataset.options().deterministic is False:
        return "its option `deterministic` is off, so its order is random"
    for each in _pipeline(dataset):
        kind = type(each).__name__.strip("_")
        if getattr(each, "_deterministic", None) == "false":
            return f"its order is random: deterministic=False in a {kind}"
        seeds: list[Any] = [getattr(each, name, None) for name in ("_seed", "_seed2")]
        if None not in seeds and not any(map(int, seeds)):
            return "it draws without a seed" if "Random" in kind else "it shuffles without a seed"
        found = _obstacle_within(_nodes(each))
        if found:
            return found
    return None


def calls_generator(dataset: tf.data.Dataset) -> bool:
    """Return whether a dataset reads a generator, which may be endless."""
    return any(
        node.op == "GeneratorDataset" for each in _pipeline(dataset) for node in _nodes(each)
    )


def _obstacle_within(nodes: list[Any]) -> str | None:
    constants = {node.name: node.attr["value"].tensor for node in nodes if node.op == "Const"}
    for node in nodes:
        if node.op.startswith(_DRAWING) and not any(_seeds(node, constants)):
            return "it shuffles without a seed"
        definition = operation_definition(node.op)
        stateful = definition is not None and definition.is_stateful
        if stateful and "Dataset" not in node.op and not node.op.startswith(_HARMLESS):
            return f"it calls {_READABLE.get(node.op, node.op)}, which has state of its own"
    return None


# Operations that are defined as stateful, but return the same values in every iteration.
_HARMLESS = (
    "DummySeedGenerator", "AnonymousSeedGenerator", "DummyMemoryCache", "AnonymousMemoryCache",
    "LookupTable", "HashTable", "MutableHashTable", "VarHandle", "ReadVariable", "Assert",
    "Print", "Placeholder", "PartitionedCall", "StatefulPartitionedCall", "ReduceDataset",
)  # fmt: skip
_READABLE = {
    "PyFunc": "Python (numpy_function or from_generator)",
    "EagerPyFunc": "Python (py_function)",
    "RandomUniform": "tf.random.uniform",
    "RandomUniformInt": "tf.random.uniform",
    "RandomStandardNormal": "tf.random.normal",
    "AssignVariableOp": "code that changes a variable, such as a Keras random layer",
    "AssignAddVariableOp": "code that changes a variable, such as a Keras random layer",
    "RngReadAndSkip": "a tf.random.Generator",
}


def _pipeline(dataset: Any) -> Iterator[Any]:
    """Yield a dataset and all datasets that it reads from."""
    yield dataset
    for each in dataset_inputs(dataset):
        yield from _pipeline(each)


def _nodes(dataset: Any) -> list[Any]:
    """Return the operations of all functions that a dataset calls, directly or indirectly."""
    graphs = [graph.as_graph_def() for graph in dataset_functions(dataset)]
    inner = [node for graph in graphs for f in graph.library.function for node in f.node_def]
    return [node for graph in graphs for node in graph.node] + inner


def _seeds(node: Any, constants: dict[str, Any]) -> list[int]:
    """Return the seeds of an operation; a seed that is not constant counts as set."""
    definition = operation_definition(node.op)
    names = [argument.name for argument in definition.input_arg]
    found = []
    for name in ("seed", "seed2"):
        if name in names:
            source = node.input[names.index(name)].split(":")[0]
            value = constants.get(source)
            found.append(1 if value is None else int(tf.make_ndarray(value)))
    return found


def shuffles(dataset: tf.data.Dataset) -> bool:
    """Return whether a dataset shuffles or draws anywhere, so that its iterations may differ."""
    parts = list(_pipeline(dataset))
    kinds = [type(each).__name__.strip("_") for each in parts]
    inner = [node.op for each in parts for node in _nodes(each)]
    return any(name.startswith((*_DRAWING, "Shuffle", "Random")) for name in [*kinds, *inner])


def _shuffles_within(dataset: tf.data.Dataset) -> bool:
    """Return whether a dataset may shuffle repeatedly in one iteration, or cache elements."""
    parts = list(_pipeline(dataset))
    kinds = [type(each).__name__ for each in parts]
    inner = [node.op for each in parts for node in _nodes(each)]
    return any(op.startswith(_SHUFFLES) for op in inner) or (
        any("Repeat" in kind or "Cache" in kind for kind in kinds)
        and any("Shuffle" in kind for kind in kinds)
    )
