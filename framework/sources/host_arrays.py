"""Reads arrays that are too large for the device from the host's memory or disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from framework.compat import gpu_limits
from framework.sources.arrays import ArraySource, as_tensor

SHARE = 0.5  # of the free memory; the model, its activations and the system need the rest


class HostArraySource(ArraySource):
    """Read the same batches as an `ArraySource`, from arrays on the host.

    Threads read a few batches ahead, so the loop does not wait. Rows of an `np.memmap` are read
    from the disk when they are needed.

    Example:
        >>> images = np.load("images.npy", mmap_mode="r")       # 200 GB
        >>> HostArraySource((images, labels), 32, shuffle=True).steps
        1953125
    """

    resident = False

    def __init__(self, arrays: Any, batch_size: int, **options: Any) -> None:
        super().__init__(arrays, batch_size, **options)
        self._iterator: Any = None
        self._epoch, self._next = -1, 0

    def cursor(self, epoch: int, start: int) -> Any:
        """Return an iterator at batch `start`: the current one, if it is there already."""
        if self._iterator is None or (epoch, start) != (self._epoch, self._next):
            super().cursor(epoch, start)
            self._iterator = iter(self._batches(epoch, start))
            self._epoch, self._next = epoch, start
        return self._iterator

    def first(self) -> Any:
        """Read the first batch without moving the current iterator."""
        super().cursor(0, 0)
        return next(iter(self._batches(0, 0)))[1]

    def moved(self, stop: int) -> None:
        self._next = stop

    def _hold(self, array: Any, held: dict[int, Any]) -> Any:
        return array if isinstance(array, np.ndarray) else as_tensor(array).numpy()

    def _gathered(self, cursor: Any, index: tf.Tensor, size: int | None) -> tuple[Any, Any]:
        epoch, batch = self.taken(cursor)
        for leaf, spec in zip(tf.nest.flatten(batch), self._specs(), strict=True):
            leaf.set_shape((size, *spec.shape[1:]))
        return epoch, batch

    def _specs(self) -> list[Any]:
        """Return the dtypes and shapes of the leaves of a batch; the first axis holds the rows."""
        return list(tf.nest.flatten(self._tensors))

    def _rows_by_batch(self) -> Callable[[int], slice | np.ndarray]:
        """Return a function of a batch's number: its rows, in the order computed last."""
        order = None if self._in_place else np.asarray(self._order)
        size, used = self.batch_size, self._used

        def rows(index: int) -> slice | np.ndarray:
            part = slice(index * size, min(used, (index + 1) * size))
            return part if order is None else order[part]

        return rows

    def _batches(self, epoch: int, start: int) -> tf.data.Dataset:
        """Return the batches of an epoch from `start` on, each with the number of the epoch."""
        rows, flat = self._rows_by_batch(), list(tf.nest.flatten(self._tensors))

        def take(index: int) -> list[np.ndarray]:
            part = rows(index)
            if isinstance(part, slice):
                return [np.ascontiguousarray(array[part]) for array in flat]
            return [np.take(array, part, axis=0) for array in flat]

        return self._read_by(take, epoch, start, tf.data.AUTOTUNE)

    def _read_by(
        self, take: Callable[[int], list[np.ndarray]], epoch: int, start: int, threads: int | None
    ) -> tf.data.Dataset:
        """Return the batches that a function of their number reads, a few ahead."""
        specs = self._specs()

        def load(index: tf.Tensor) -> Any:
            leaves = tf.numpy_function(take, [index], [spec.dtype for spec in specs])
            for leaf, spec in zip(leaves, specs, strict=True):
                leaf.set_shape((None, *spec.shape[1:]))
            return tf.constant(epoch, tf.int64), tf.nest.pack_sequence_as(self._tensors, leaves)

        numbers = tf.data.Dataset.range(start, self.steps)
        return numbers.map(load, num_parallel_calls=threads).prefetch(tf.data.AUTOTUNE)


def fits_on_device(arrays: Any) -> bool:
    """Return whether arrays take less than half of the device's free memory."""
    leaves = tf.nest.flatten(arrays)
    return fits(sum(leaf.nbytes for leaf in leaves if isinstance(leaf, np.ndarray)))


def fits(needed: float) -> bool:
    """Return whether so many bytes are less than half of the device's free memory."""
    return needed <= SHARE * free_bytes()


def free_bytes() -> float:
    """Return the memory of the device that computes, or infinity if it is unknown."""
    gpus = [d for d in tf.config.list_logical_devices() if d.device_type == "GPU"]
    if gpus:
        return float(min(gpu_limits(), default=0)) or float("inf")
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found = {name: rest for name, _, rest in (line.partition(":") for line in lines)}
        return float(found["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    except (AttributeError, OSError, ValueError):
        return float("inf")
