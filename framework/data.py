"""`Data`: the data on which a task trains, validates, tests and predicts."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import keras
import tensorflow as tf

from framework.errors import UserError


@dataclass(frozen=True)
class Data:
    """The data for a task: the sets for training, validation, testing and prediction, in batches.

    Each set is one of: NumPy arrays or tensors, in any nest, such as `(x, y)` or `{"image": x,
    "label": y}`; a `tf.data.Dataset` of batches; a `keras.utils.PyDataset`; a function that returns
    an iterator of batches (its argument, if any, is the number of the epoch, from 0); a set with a
    length and an index, which takes a list of row numbers, as Hugging Face's do, or one number, as
    grain's do; a `Steps`, if the steps make their own batches.

    Arrays are held once, in their stored form. The compiled loop gathers batches from them,
    shuffled by a stateless permutation of (seed, epoch). Any batch is available directly, so a run
    resumes in mid-epoch at no cost. Arrays that are too large for the device, such as an
    `np.memmap` of a file, stay where they are, and so do sets with an index; the same batches are
    read ahead from them. The other kinds of sets bring their own batches in their own order.

    Example:
        >>> Data(train=(x, y), val_fraction=0.1, batch_size=64)
        >>> Data(train=(x, y), val={"clean": (x1, y1), "noisy": (x2, y2)})

    Args:
        train: The training set. `Trainer.fit` needs it.
        val: The validation set, or several by name. A dict means several sets if each of its values
            is a set (a tuple, list or dict of arrays, a dataset, a function), unless the training
            set is a dict with the same names; otherwise it is one set with dicts as batches.
        test: The test set.
        predict: The set to predict on. Default: the test set, else the validation set.
        batch_size: Rows per training batch from arrays. A smaller last batch is kept.
        eval_batch_size: Rows per batch in validation, test and prediction. Default: up to 512 if
            that many rows fit in 16 MB of arrays, since larger batches are faster and do not change
            means over examples; `batch_size` if a limit counts batches. Set it if a value depends
            on the other examples in the batch, as in a contrastive loss.
        resident: Put arrays on the device. Default: if they take less than half of its free memory.
            A set with an index is read once for that if True, and by default if it is a table of
            Hugging Face.
        workers: Processes that read a set with an index ahead, each with a copy of it. 0: a thread
            of this process. The batches are the same.
        shuffle: Visit the rows of training arrays in a different order in every epoch.
        val_fraction: Fraction of the rows of training arrays to hold out for validation, drawn by
            the seed.
        map: A function of a batch, run inside the compiled loop on every set, such as
            `lambda batch: (tf.cast(batch[0], tf.float32) / 255, batch[1])`.
        augment: A function of a batch and a seed (an int64 tensor of shape [2], different for every
            step), run after `map` on training batches, such as an `Augment`, which can apply
            Keras's preprocessing layers. With TensorFlow's stateless random operations, it gives
            the same batches in every run.
        signature: The batches of generators and `PyDataset`s with varying shapes: a nest of
            `tf.TensorSpec`s, with None for each dimension that varies. Default: every batch has the
            shapes of the first one, except for the number of rows.
        rows_axis: The axis that holds the rows in each array and in each tensor of a batch: 0, or 1
            for [time, rows, features]. A nest like a batch, such as `(1, 0)`, sets it per tensor,
            with None for a tensor that every device receives whole. `map` and `augment` must keep
            it.
        info: What to record about the data in `result.json`, such as their origin.
        preprocessing: What was done to the raw data before `map`, which is saved with the run; see
            `framework.datasets.preprocessing`.
        class_names: The names of the classes, in the order of their labels, for pictures.

    Raises:
        UserError: A value is out of range.
    """

    train: Any = None
    val: Any = None
    test: Any = None
    predict: Any = None
    batch_size: int = 32
    eval_batch_size: int | None = None
    resident: bool | None = None
    workers: int = 0
    shuffle: bool = True
    val_fraction: float = 0.0
    map: Callable[[Any], Any] | None = None
    augment: Callable[[Any, tf.Tensor], Any] | None = None
    signature: Any = None
    rows_axis: Any = 0
    info: Mapping[str, Any] = field(default_factory=dict)
    preprocessing: Any = None
    class_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("batch_size", "eval_batch_size"):
            value = getattr(self, name)
            if value is None and name == "eval_batch_size":
                continue
            if not _is_whole(value) or value < 1:
                _refuse(name, value, "Give a whole number, 1 or more.")
            object.__setattr__(self, name, int(value))  # accepts NumPy's integers
        if not _is_whole(self.workers) or self.workers < 0:
            _refuse("workers", self.workers, "Give the number of processes; 0: none.")
        fraction: Any = self.val_fraction
        number = isinstance(fraction, numbers.Real) and not isinstance(fraction, bool)
        if not (number and 0 <= fraction < 1):
            _refuse("val_fraction", fraction, "Give a fraction from 0 (none) to below 1.")
        object.__setattr__(self, "val_fraction", float(fraction))
        if self.resident not in (None, True, False):
            _refuse("resident", self.resident, "Give True or False.")
        for name in ("map", "augment"):
            value = getattr(self, name)
            if value is not None and not callable(value):
                _refuse(name, value, "Give a function of a batch.")
        if isinstance(self.augment, keras.Layer):
            _refuse("augment", self.augment.name, "Give Augment(layers=[...]).")
        for axis in tf.nest.flatten(self.rows_axis):
            given = _is_whole(axis) and axis >= 0
            if not (given or (axis is None and axis is not self.rows_axis)):
                _refuse(
                    "rows_axis",
                    self.rows_axis,
                    "Give the axis that holds the rows, from 0 on; or a nest like a batch, such as "
                    "(1, 0), with None for a tensor without rows.",
                )
        object.__setattr__(self, "class_names", _names(self.class_names))
        if self.val_fraction and self.val is not None:
            raise UserError(
                "both val and val_fraction are given",
                where="data.val_fraction",
                fix="Keep one of them.",
            )


@dataclass(frozen=True)
class Steps:
    """A number of batches without data: for reinforcement learning, sampling, simulation.

    A batch holds the numbers of its examples, int64 of shape [batch_size], counted through the run;
    in evaluations, and with `Data(shuffle=False)`, counted from 0 in each epoch. A step may ignore
    them. Or the step, or `Data.map`, draws each example by its number, which gives the same
    examples on any number of devices.

    Example:
        >>> Data(train=Steps(1000), val=Steps(10), batch_size=8)

    Args:
        count: Batches per epoch, 1 or more.

    Raises:
        UserError: The count is not a positive integer.
    """

    count: int

    def __post_init__(self) -> None:
        count: Any = self.count
        if not (_is_whole(count) and count >= 1):
            raise UserError(f"an epoch of {count!r} batches", where="Steps", fix="Give 1 or more.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def _names(given: Any) -> tuple[str, ...]:
    """Return the names of classes as a tuple, or refuse what is not a sequence of names."""
    sequence = isinstance(given, Sequence) and not isinstance(given, (str, bytes))
    if not (sequence and all(isinstance(name, str) and name for name in given)):
        fix = 'Give a list of names, in the order of the labels: ["cat", "dog"].'
        _refuse("class_names", given, fix)
    return tuple(given)


def _refuse(name: str, value: Any, fix: str) -> NoReturn:
    raise UserError(f"{name} is {value!r}", where=f"data.{name}", fix=fix)
