"""What a task trains on: `Data`, and the source that the engine reads batches from."""

from __future__ import annotations

import abc
import math
import numbers
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import tensorflow as tf

from framework.errors import UserError
from framework.sources.rows_axis import check_axes, map_rows


@dataclass(frozen=True)
class Data:
    """The data of a task: what to train, validate, test and predict on, and in which batches.

    Each set is one of: NumPy arrays or tensors, in any nest, such as `(x, y)` or `{"image": x,
    "label": y}`; a `tf.data.Dataset` of batches; a `keras.utils.PyDataset`; a function that returns
    an iterator of batches; if it takes an argument, that is the number of the epoch, from 0; a
    `Steps`, for steps that make their own batches. Arrays are held once, as they are stored, and
    batches are gathered from them inside the compiled loop, shuffled by a stateless permutation of
    (seed, epoch): any batch can be had at once, so that a run continues in mid-epoch at no cost.
    Arrays that are too large for the device, such as an `np.memmap` of a file, stay where they are,
    and the same batches are read ahead from them. The other kinds bring their own batches and their
    own order.

    Example:
        >>> Data(train=(x, y), val_fraction=0.1, batch_size=64)
        >>> Data(train=(x, y), val={"clean": (x1, y1), "noisy": (x2, y2)})

    Args:
        train: What to learn from. Needed by `Trainer.fit`.
        val: What to validate on: one set, or several by name. A dict is several sets if each of its
            values is a set (a tuple, list or dict of arrays, a dataset, a function), unless the
            training set is a dict with the same names; else it is one set whose batches are dicts.
        test: What to test on.
        predict: What to predict. Default: the test set, else the validation set.
        batch_size: Rows of a training batch taken from arrays; the ragged last one is kept.
        eval_batch_size: The same for validation, test and prediction. Default: up to 512 where
            16 MB of arrays hold as many, since larger batches are faster and change no mean over
            examples; `batch_size` where a limit counts batches. Give it where a step's value
            depends on who shares a batch, as a contrastive loss does.
        resident: Put arrays on the device. Default: if they take less than half of its free memory.
        shuffle: Visit the rows of training arrays in another order every epoch.
        val_fraction: Part of the rows of training arrays, drawn by the seed, that is held back as
            the validation set.
        map: A function of a batch, run inside the compiled loop on every set, such as
            `lambda batch: (tf.cast(batch[0], tf.float32) / 255, batch[1])`.
        augment: A function of a batch and a seed (int64 tensor of shape [2], another one for
            every step), run after `map` on training batches. With TensorFlow's stateless random
            operations it gives the same batches in every run.
        signature: The batches of generators and `PyDataset`s whose shapes differ: a nest of
            `tf.TensorSpec`s, with None for each dimension that varies. Default: every batch has the
            shapes of the first, but for its rows.
        rows_axis: Which axis of each array, and of each tensor of a batch, holds the rows: 0, or 1
            for [time, rows, features]. A nest like a batch, such as `(1, 0)`, says it of each
            tensor, and None of one that goes to every device whole. `map` and `augment` keep it.
        info: What is recorded of the data in `result.json`, such as where they came from.

    Raises:
        UserError: A value is out of its range.
    """

    train: Any = None
    val: Any = None
    test: Any = None
    predict: Any = None
    batch_size: int = 32
    eval_batch_size: int | None = None
    resident: bool | None = None
    shuffle: bool = True
    val_fraction: float = 0.0
    map: Callable[[Any], Any] | None = None
    augment: Callable[[Any, tf.Tensor], Any] | None = None
    signature: Any = None
    rows_axis: Any = 0
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_batch_size"):
            value = getattr(self, name)
            if value is None and name == "eval_batch_size":
                continue
            whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
            if not whole or value < 1:
                raise UserError(f"{name} is {value!r}", where=f"data.{name}", fix="Give 1 or more.")
            object.__setattr__(self, name, int(value))  # NumPy's whole numbers too
        fraction: Any = self.val_fraction
        number = isinstance(fraction, numbers.Real) and not isinstance(fraction, bool)
        if not (number and 0 <= fraction < 1):
            raise UserError(
                f"val_fraction is {self.val_fraction!r}",
                where="data.val_fraction",
                fix="Give a fraction from 0 (none) to below 1.",
            )
        object.__setattr__(self, "val_fraction", float(fraction))
        if self.resident not in (None, True, False):
            raise UserError(
                f"resident is {self.resident!r}", where="data.resident", fix="Give True or False."
            )
        for name in ("map", "augment"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                raise UserError(
                    f"{name} is {value!r}", where=f"data.{name}", fix="Give a function of a batch."
                )
        check_axes(self.rows_axis)
        if self.val_fraction and self.val is not None:
            raise UserError(
                "both val and val_fraction are given",
                where="data.val_fraction",
                fix="Keep one of them.",
            )


class Source(abc.ABC):
    """Batches for the compiled loop.

    Attributes:
        steps: Batches in an epoch, or None while that is unknown.
        may_end: Whether an epoch may have fewer, as only reading it tells.
        rows_axis: Which axis of a batch's tensors holds its rows; see `Data`.
        micro_rows: Take a batch's gradient in pieces of so many rows. None: as a whole.
        resident: Whether its arrays are on the device, where the loop itself can gather from them.
        obstacle: Why a run cannot be continued on it exactly. None: it can.
    """

    steps: int | None
    may_end = False
    rows_axis: Any = 0
    micro_rows: int | None = None
    resident = False
    obstacle: str | None = None
    _waited: tf.Variable | None = None

    @property
    def operations(self) -> set[str]:
        """The kinds of TensorFlow's operations in `augment`, which vary batches inside the loop."""
        return set()

    def check(self) -> None:
        """Be called now and then where reading takes long; a trainer has signals raised here."""

    @abc.abstractmethod
    def cursor(self, epoch: int, start: int) -> Any:
        """Return what `read` needs to read `epoch` from batch `start` on: a tensor or iterator."""

    @abc.abstractmethod
    def read(self, cursor: Any, index: tf.Tensor, size: int | None) -> Any:
        """Return batch `index` of an epoch, in the graph."""

    @abc.abstractmethod
    def parts(self, start: int, stop: int) -> list[tuple[int, int, int | None]]:
        """Cut batches [start, stop) into runs of one shape: (start, stop, rows of a batch)."""

    @abc.abstractmethod
    def spec(self, size: int | None = None) -> Any:
        """Return the nest of TensorSpecs of a batch of `size` rows, as a step gets it."""

    @abc.abstractmethod
    def first(self) -> Any:
        """Return the first batch, neither mapped nor augmented; a stream is read once more for it.

        Where several processes read the same data, they compare it.
        """

    def taken(self, iterator: Any, *, optional: bool = False) -> Any:
        """Return an iterator's next batch, in the graph, as an optional if it may have none."""
        take = iterator.get_next_as_optional if optional else iterator.get_next
        if self._waited is None:
            return take()
        before = tf.timestamp()
        with tf.control_dependencies([before]):
            batch = take()
        with tf.control_dependencies(tf.nest.flatten(batch, expand_composites=True)):
            self._waited.assign_add(tf.timestamp() - before)
        return batch

    def time_waits(self) -> None:
        """Have the steps that are compiled from now on measure how long they wait for a batch."""
        self._waited = tf.Variable(0.0, dtype=tf.float64, trainable=False, name="waited")

    def waited(self) -> float:
        """Return the seconds that steps have waited since this was last asked."""
        if self._waited is None:
            return 0.0
        seconds = float(self._waited.numpy())
        self._waited.assign(0.0)
        return seconds

    def finish(self, batch: Any, index: tf.Tensor) -> Any:
        """Return a batch that the loop took from an iterator itself, mapped and augmented."""
        return batch

    def moved(self, stop: int) -> None:
        """Note that the batches before `stop` have been read."""

    def renew(self, epoch: int) -> bool:
        """Read from the top where an epoch has no batch; tell whether there is one to hope for."""
        return False

    def finished(self, epoch: int) -> None:
        """Note that an epoch is over, or an evaluation."""

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Say what the user's own code raised, if it fails while the body reads batches."""
        yield


def limited(total: int, limit: int | float) -> int:
    """Return how many of `total` batches a limit leaves: a count, or a fraction rounded up.

    Example:
        >>> limited(1563, 100), limited(1563, 0.1), limited(1563, 1.0)
        (100, 157, 1563)
    """
    return min(total, limit) if isinstance(limit, int) else math.ceil(exact(limit) * total)


def exact(fraction: float) -> Fraction:
    """Return a fraction as it is written: 0.07 of 100 is 7, though 100 * 0.07 is a little more."""
    return Fraction(repr(float(fraction)))


def batch_rows(batch: Any, rows_axis: Any = 0) -> Any:
    """Return the number of examples in a batch: the length of its first tensor that has one.

    Args:
        batch: A nest of tensors.
        rows_axis: Which axis holds the rows; see `Data`.

    Where the length of some is fixed and that of others is not, as in a stream with a ragged end,
    it is that of the first whose is not.
    """
    found: list[tuple[int | None, tf.Tensor, int]] = []

    def note(leaf: Any, axis: int) -> Any:
        tensor = tf.convert_to_tensor(leaf)
        found.append((tensor.shape[axis] if tensor.shape.rank else None, tensor, axis))
        return leaf

    map_rows(note, batch, rows_axis)
    if not found:
        return 1
    static, tensor, axis = min(found, key=lambda each: each[0] is not None)
    return static if static is not None else tf.shape(tensor, tf.int64)[axis]
