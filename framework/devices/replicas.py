"""The devices that share one step, seen from inside the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import keras
import tensorflow as tf


class Batch(NamedTuple):
    """A batch on one device, and its place in an epoch or an evaluation.

    Attributes:
        values: What the task's step gets: any nest of tensors.
        rows: How many examples are in it: an int where that is known, else a tensor.
        total: How many examples all devices have together; `rows` itself on one device.
        number: Its number in the epoch or the evaluation, from 0: an int64 tensor.
    """

    values: Any
    rows: Any
    total: Any
    number: Any


Step = Callable[[Batch, Any], None]
"""What the loop calls for each batch: `(batch, global_step)`. It changes variables."""


def take_rows(
    leaf: Any, first: Any, last: Any, rows: Any, *, length: int | None = None, axis: int = 0
) -> tf.Tensor:
    """Return rows [first, last) of a batch's leaf; one that has other than `rows` rows, whole.

    Args:
        leaf: A tensor of the batch.
        first: The first row.
        last: The row after the last; at least one is returned.
        rows: Rows of the batch, a tensor while that is unknown.
        length: last - first, if it is known though they are not.
        axis: Which of its axes holds the rows; it has one.
    """
    leaf = tf.convert_to_tensor(leaf)
    if leaf.shape.rank == 0:
        return leaf
    known = leaf.shape[axis]
    if known is not None and (known != rows if isinstance(rows, int) else True):
        return leaf  # rows that are unknown are those of another leaf
    if isinstance(first, int) and isinstance(last, int):
        first, last = min(first, max(rows - 1, 0)), max(last, first + 1)
    else:
        first = tf.minimum(first, tf.maximum(tf.cast(rows, first.dtype) - 1, 0))
        last = tf.maximum(last, first + 1)

    def part() -> tf.Tensor:
        if length is None:
            return leaf[(*[slice(None)] * axis, slice(first, last))]
        place: list[Any] = [0] * leaf.shape.rank
        sizes = list(leaf.shape)
        place[axis], sizes[axis] = first, length  # a size that is known, as XLA wants it
        return tf.slice(leaf, tf.stack(place), sizes)

    # Pieces of a batch keep a shape that is known: `accumulate` refuses leaves without rows.
    if known is not None or length is not None:
        return part()
    return tf.cond(
        tf.equal(tf.shape(leaf, tf.int64)[axis], tf.cast(rows, tf.int64)), part, lambda: leaf
    )


class Replicas:
    """One device: nothing is split, and nothing needs to be brought together.

    The step and the pipeline of updates are written against this class; `MirroredReplicas` does
    the same on several devices.

    Args:
        device: TensorFlow's name of the device.

    Attributes:
        count: Devices that share a step, on all machines.
        workers: Processes that share a run, one on each machine.
        is_chief: Whether this process writes logs and checkpoints.
        log_room: Values that one variable of an `Accumulator` holds.
    """

    count = 1
    workers = 1
    is_chief = True
    log_room = 64

    def __init__(self, device: str) -> None:
        self.device = device

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context in which variables are made and functions are called."""
        return tf.device(self.device)  # type: ignore[no-any-return]

    def spread(self, step: Step, rows_axis: Any = 0) -> Step:
        """Return a step of the loop that runs `step` on every device, each on its rows."""
        return step

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Add tensors up over the devices; called on each of them, at the same place."""
        return list(tensors)

    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        """Join a tensor of every device along its first axis; called as `sum` is."""
        return tensor

    @contextmanager
    def agreeing(self, variables: Sequence[Any], share: Any) -> Iterator[None]:
        """Bring together what devices assign differently in the body, such as batch statistics.

        Args:
            variables: What may be assigned.
            share: This device's part of the step's examples.
        """
        yield

    def together(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function once for all devices, which wait for it; `args` are of each of them."""
        function(*args)

    # ---- inside `together`

    def each(self, function: Callable[..., None], *args: Any) -> None:
        """Call a function on every device, with the part of `args` that is its own."""
        function(*args)

    def first(self, value: Any) -> tf.Tensor:
        """Return the first device's part of a value."""
        return value

    def change(self, variable: Any, function: Callable[..., Any], *args: Any) -> None:
        """Change a variable alike on every device: `function(variable, *args)`."""
        function(plain(variable), *map(plain, args))

    # ---- on the host

    def check_metric(self, name: str, metric: keras.Metric) -> None:
        """Refuse a Keras metric that devices could not add up."""

    def agree(self, values: Sequence[float]) -> list[float]:
        """Return the greatest of every worker's values, by place."""
        return list(values)

    def compare(self, about: str, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Refuse to go on where workers have found different facts; all call it together.

        Args:
            about: What they are about.
            facts: Returns what JSON can hold, by name; not called where there is one worker.

        Raises:
            UserError: They differ.
        """

    def explain(self, error: Exception) -> Exception:
        """Return what to raise in the place of an error that a lost worker has caused."""
        return error

    def own(self, optimizer: keras.Optimizer) -> keras.Optimizer:
        """Return an optimizer with variables on every device, which takes reduced gradients."""
        return optimizer

    def diversify(self, variables: Iterable[Any]) -> None:
        """Give each device seeds of its own for dropout and the like; the first keeps its own."""


def plain(value: Any) -> Any:
    """Return the TensorFlow variable of a Keras variable, and anything else as it is."""
    return value.value if isinstance(value, keras.Variable) else value
