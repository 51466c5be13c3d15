"""`Data`: what a task trains, validates, tests and predicts on."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tensorflow as tf

from framework.errors import UserError


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
                raise UserError(
                    f"{name} is {value!r}",
                    where=f"data.{name}",
                    fix="Give a whole number, 1 or more.",
                )
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
        _check_axes(self.rows_axis)
        if self.val_fraction and self.val is not None:
            raise UserError(
                "both val and val_fraction are given",
                where="data.val_fraction",
                fix="Keep one of them.",
            )


@dataclass(frozen=True)
class Steps:
    """So many batches without data: reinforcement learning, sampling, simulation.

    A batch is the numbers of its examples, int64 of shape [batch_size], counted through the run; in
    evaluations, and with `Data(shuffle=False)`, counted from 0 in each epoch. A step may leave them
    alone; or it, or `Data.map`, draws each example by its number, which gives the same examples on
    any number of devices.

    Example:
        >>> Data(train=Steps(1000), val=Steps(10), batch_size=8)

    Args:
        count: Batches in an epoch, 1 or more.

    Raises:
        UserError: The count is something else.
    """

    count: int

    def __post_init__(self) -> None:
        count: Any = self.count
        whole = isinstance(count, numbers.Integral) and not isinstance(count, bool)
        if not (whole and count >= 1):
            raise UserError(f"an epoch of {count!r} batches", where="Steps", fix="Give 1 or more.")


def _check_axes(rows_axis: Any) -> None:
    """Refuse what says of no axis that it holds the rows.

    Raises:
        UserError: It is no number from 0 on, nor a nest of them and of None.
    """
    for axis in tf.nest.flatten(rows_axis):
        whole = isinstance(axis, numbers.Integral) and not isinstance(axis, bool)
        if (axis is not None or axis is rows_axis) and not (whole and axis >= 0):
            raise UserError(
                f"rows_axis is {rows_axis!r}",
                where="data.rows_axis",
                fix="Give the axis that holds the rows, from 0 on; or a nest like a batch, such as "
                "(1, 0), with None for what has no rows.",
            )
