"""Reads arrays that are too large for the device from the host's memory or disk."""

from __future__ import annotations

import os
import threading
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
        self._epoch, self._next = -1, 0  # the number of the next batch, counted through the run

    def cursor(self, epoch: int, start: int) -> Any:
        """Return an iterator at batch `start`: the current one, if it is there already.

        While a set is shuffled, and so is trained on, the next epoch is read ahead as well.
        """
        place, same = epoch * self.steps + start, self._shuffle or epoch == self._epoch
        if self._iterator is None or place != self._next or not same:
            last = 2**62 if self._shuffle else (epoch + 1) * self.steps
            self._iterator = iter(self._batches(place, last))
        self._epoch, self._next = epoch, place
        return self._iterator

    def first(self) -> Any:
        """Read the first batch without moving the current iterator."""
        return next(iter(self._batches(0, 1)))[1]

    def moved(self, stop: int) -> None:
        self._next = self._epoch * self.steps + stop

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
        """Return a function of a batch's number, counted through the run: its rows."""
        held, lock = dict[int, np.ndarray](), threading.Lock()

        def order(epoch: int) -> np.ndarray:
            with lock:  # threads come to an epoch together
                if epoch not in held:
                    for earlier in [each for each in held if each < epoch - 1]:
                        del held[earlier]
                    held[epoch] = self._order_in(epoch)
                return held[epoch]

        def rows(number: int) -> slice | np.ndarray:
            epoch, index = divmod(int(number), self.steps)
            start = index * self.batch_size
            part = slice(start, min(self._used, start + self.batch_size))
            return part if self._in_place else order(epoch)[part]

        return rows

    def _batches(self, first: int, last: int) -> tf.data.Dataset:
        """Return the batches [first, last) of the run, each with the number of its epoch."""
        rows, flat = self._rows_by_batch(), list(tf.nest.flatten(self._tensors))

        def take(number: int) -> list[np.ndarray]:
            part = rows(number)
            if isinstance(part, slice):
                return [np.ascontiguousarray(array[part]) for array in flat]
            return [np.take(array, part, axis=0) for array in flat]

        return self._read_by(take, first, last, threads=tf.data.AUTOTUNE)

    def _read_by(
        self,
        take: Callable[[int], list[np.ndarray]],
        first: int,
        last: int,
        *,
        threads: int | None = None,
    ) -> tf.data.Dataset:
        """Return the batches that a function of their number reads, a few ahead."""
        specs = self._specs()

        def load(number: tf.Tensor) -> Any:
            leaves = tf.numpy_function(take, [number], [spec.dtype for spec in specs])
            for leaf, spec in zip(leaves, specs, strict=True):
                leaf.set_shape((None, *spec.shape[1:]))
            return number // self.steps, tf.nest.pack_sequence_as(self._tensors, leaves)

        numbers = tf.data.Dataset.range(first, last)
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
