"""The interface between a step and the devices that share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from framework.compat import takes_reduced_gradients


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


Step = Callable[[Batch, Any], tf.Tensor]
"""What the loop calls for each batch: `(batch, global_step)`. It changes variables, and returns the
number of examples as an int64 tensor."""


def take_rows(
    leaf: Any, first: Any, last: Any, rows: Any, *, length: int | None = None, axis: int = 0
) -> tf.Tensor:
    """Return rows [first, last) of a leaf, at least one; or all of it if it lacks `rows` rows.

    `length` is last - first, if that is known although they are not.
    """
    leaf = tf.convert_to_tensor(leaf)
    if leaf.shape.rank == 0:
        return leaf
    known = leaf.shape[axis]
    if known is not None and (known != rows if isinstance(rows, int) else True):
        return leaf  # an unknown number of rows belongs to another leaf
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
        place[axis], sizes[axis] = first, length  # a static size, as XLA needs it
        return tf.slice(leaf, tf.stack(place), sizes)

    # Pieces of a batch keep a static shape: `accumulate` rejects leaves without rows.
    if known is not None or length is not None:
        return part()
    return tf.cond(
        tf.equal(tf.shape(leaf, tf.int64)[axis], tf.cast(rows, tf.int64)), part, lambda: leaf
    )


class Replicas:
    """One device: batches are not split, and results need no reduction.

    The step and the update pipeline use this interface; `MirroredReplicas` implements it for
    several devices.

    Args:
        device: TensorFlow's name of the device.

    Attributes:
        count: Number of devices that share a step, on all machines.
        workers: Number of processes that share a run, one per machine.
        is_chief: Whether this process writes logs and checkpoints.
        log_room: Number of values in one variable of an `Accumulator`.
    """

    count = 1
    workers = 1
    is_chief = True
    log_room = 64

    def __init__(self, device: str) -> None:
        self.device = device

    def scope(self) -> AbstractContextManager[Any]:
        """Return the context for creating variables and calling functions."""
        return tf.device(self.device)  # type: ignore[no-any-return]

    def spread(self, step: Step, rows_axis: Any = 0) -> Step:
        """Return a step of the loop that runs `step` on every device, each on its rows."""
        return step

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        """Add tensors up over the devices; called on each of them, at the same place."""
        return list(tensors)

    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        """Concatenate a tensor of every device along its first axis; called as `sum` is."""
        return tensor

    @contextmanager
    def agreeing(self, variables: Sequence[Any], share: Any) -> Iterator[None]:
        """Average what devices, each with its share of examples, assign in the body."""
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
        """Make the same change to a variable on every device: `function(variable, *args)`."""
        function(plain(variable), *map(plain, args))

    # ---- on the host

    def check_metric(self, name: str, metric: keras.Metric) -> None:
        """Reject a Keras metric that is not on all devices."""

    def agree(self, values: Sequence[float]) -> list[float]:
        """Return the elementwise maximum of the values of all workers."""
        return list(values)

    def compare(self, about: str, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Check that all workers have the same facts about a topic; all workers must call it.

        `facts` returns JSON values by name, and is called only if there are several workers.
        """

    def explain(self, error: Exception) -> Exception:
        """Return the error to raise instead of one that a lost worker has caused."""
        return error

    def own(self, optimizer: keras.Optimizer) -> keras.Optimizer:
        """Return an optimizer with variables on every device that accepts reduced gradients."""
        # The sum over one device is the gradient itself, but TensorFlow would keep the graph of
        # every run that asks for it.
        takes_reduced_gradients(optimizer)
        return optimizer

    def diversify(self, variables: Iterable[Any]) -> None:
        """Give each device different seeds, as for dropout; the first device keeps its seed."""


def plain(value: Any) -> Any:
    """Return the TensorFlow variable of a Keras variable, and any other value unchanged."""
    return value.value if isinstance(value, keras.Variable) else value
