"""Several devices that share each step, with `tf.distribute`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf

from framework.compat import (
    copy_weight_decay,
    keras_global,
    put_on_devices,
    set_keras_global,
    takes_reduced_gradients,
    unscaled_losses,
)
from framework.core.dtypes import as_dtype
from framework.devices.replicas import Batch, Replicas, Step, plain, take_rows
from framework.errors import UserError
from framework.sources.rows_axis import map_rows
from framework.text.escape import without_colours

_SEEDS = "seed_generator_state"
_GLOBAL_SEEDS = "global_seed_generator"
_FOLD = 0x9E3779B1  # odd, so that no two of 2**32 devices share a seed


class MirroredReplicas(Replicas):
    """Several devices: each has a copy of all variables and computes a share of each batch.

    Each process reads a batch once, and splits it along the rows axis (`Data.rows_axis`, by
    default the first). Leaves without the batch's number of rows go to every device unsplit. With
    R devices, device r computes rows [n*r//R, n*(r+1)//R) of n. A device without rows computes one
    row with weight 0, since all devices must take part in the reductions.

    Args:
        strategy: A `MirroredStrategy` or `MultiWorkerMirroredStrategy`.
    """

    log_room = 256

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self.strategy = strategy
        self.count: int = strategy.num_replicas_in_sync
        self._first_number = 0  # of the devices of this process
        names = [
            d.rpartition("device:")[2] or d.strip("/") for d in strategy.extended.worker_devices
        ]
        super().__init__(", ".join(names))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Create variables on every device, and keep Keras from scaling losses.

        The pipeline weights each device's gradient by its share of the rows, ragged batches
        included. It could not tell a loss that Keras has scaled from one that it has not.
        """
        logger = tf.get_logger()
        level = logger.level
        logger.setLevel(logging.ERROR)  # TensorFlow warns of running eagerly at every step
        try:
            with self.strategy.scope(), unscaled_losses():
                yield
        finally:
            logger.setLevel(level)

    def spread(self, step: Step, rows_axis: Any = 0) -> Step:
        def on_all(batch: Batch, global_step: Any) -> tf.Tensor:
            seeds, values, rows = keras_global(_GLOBAL_SEEDS), batch.values, batch.rows

            def on_one(part: Any) -> None:
                # Keras stores it per thread, and every device is traced in a separate thread.
                own = None if seeds is None else _OwnSeeds(seeds, _own_number())
                set_keras_global(_GLOBAL_SEEDS, own)
                first, last = self._bounds(_own_number(), rows)
                step(Batch(part, last - first, rows, batch.number), global_step)

            def cut(context: Any) -> Any:
                first, last = self._bounds(context.replica_id_in_sync_group, rows)
                return map_rows(
                    lambda t, axis: take_rows(t, first, last, rows, axis=axis), values, rows_axis
                )

            parts = self.strategy.experimental_distribute_values_from_function(cut)
            self.strategy.run(on_one, args=(parts,))
            return tf.cast(rows, tf.int64)

        return on_all

    def sum(self, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
        if not tensors:
            return []
        add = tf.distribute.ReduceOp.SUM

        def reduce(strategy: tf.distribute.Strategy, *parts: Any) -> list[Any]:
            return list(strategy.extended.batch_reduce_to(add, [(p, p) for p in parts]))

        # `all_reduce` would join its results with an IdentityN, for its gradient. TensorFlow first
        # treats that as a barrier, drops the order between a read and an assignment that the
        # barrier implies, and then removes it: the read may then see the later assignment.
        dense = [tf.identity(t) for t in tensors]
        return list(tf.distribute.get_replica_context().merge_call(reduce, args=dense))

    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return tensor if context is None else context.all_gather(tf.identity(tensor), axis=0)

    @contextmanager
    def agreeing(self, variables: Sequence[Any], share: Any) -> Iterator[None]:
        before = [tf.identity(v) for v in variables]
        share = 1.0 if share is None else share
        yield
        # As a difference, so that an unchanged variable keeps its bits.
        moved = self.sum([_weighed(v - b, share) for v, b in zip(variables, before, strict=True)])

        def assign(before: list[Any], moved: list[Any]) -> None:
            for variable, b, m in zip(variables, before, moved, strict=True):
                self.change(variable, lambda v, b, m: v.assign(b + m), b, m)

        if variables:
            self.together(assign, before, moved)

    def together(self, function: Callable[..., None], *args: Any) -> None:
        context = tf.distribute.get_replica_context()
        context.merge_call(lambda _, *parts: function(*parts), args=args)

    def each(self, function: Callable[..., None], *args: Any) -> None:
        self.strategy.extended.call_for_each_replica(function, args=args)

    def first(self, value: Any) -> tf.Tensor:
        return self.strategy.experimental_local_results(value)[0]

    def change(self, variable: Any, function: Callable[..., Any], *args: Any) -> None:
        self.strategy.extended.update(plain(variable), function, args=tuple(map(plain, args)))

    def own(self, optimizer: keras.Optimizer) -> keras.Optimizer:
        """Create an optimizer again that was created outside the scope."""
        branches = optimizer.gradient_accumulation_steps or optimizer.ema_overwrite_frequency
        if branches:
            raise UserError(
                "an option of the optimizer that branches inside it cannot run on several devices",
                where=type(optimizer).__name__,
                fix="Use trainer.accumulate instead of gradient_accumulation_steps, and "
                "callbacks=ema instead of use_ema.",
            )
        if not put_on_devices(optimizer, self.strategy):
            given = optimizer
            try:
                optimizer = type(optimizer).from_config(optimizer.get_config())
            except (NotImplementedError, TypeError, ValueError) as error:
                raise UserError(
                    f"the optimizer was created before the devices, and cannot be created again: "
                    f"{without_colours(error)}",
                    where=type(optimizer).__name__,
                    fix="Give a function that creates it: Task(optimizer=lambda: ...), or create "
                    "it in configure_optimizers.",
                ) from error
            copy_weight_decay(optimizer, given)
        # The pipeline has already summed the gradients over the devices.
        takes_reduced_gradients(optimizer)
        return optimizer

    def diversify(self, variables: Iterable[Any]) -> None:
        for variable in variables:
            if not getattr(variable, "path", "").endswith(_SEEDS):
                continue
            if not hasattr(variable.value, "values"):
                raise UserError(
                    f"a keras.random.SeedGenerator is on one device, not on all {self.count}",
                    where=variable.path,
                    fix="Create it in build_model, not before.",
                )
            seed = variable.numpy()
            for number, copy in enumerate(variable.value.values, self._first_number):
                own = seed.copy()
                own[0] = (int(seed[0]) + number * _FOLD) % 2**32
                copy.assign(own)

    def _bounds(self, number: Any, rows: Any) -> tuple[Any, Any]:
        return rows * number // self.count, rows * (number + 1) // self.count

    def check_metric(self, name: str, metric: keras.Metric) -> None:
        if any(not hasattr(v.value, "values") for v in metric.variables):
            raise UserError(
                f"the metric {name!r} is on one device, not on all {self.count}",
                where=type(metric).__name__,
                fix="Create it in build_model, not before.",
            )


class _OwnSeeds:
    """Draw seeds, different on each device, from the global generator, whose state is shared."""

    def __init__(self, generator: keras.random.SeedGenerator, number: int) -> None:
        self._generator, self._fold = generator, number * _FOLD % 2**31

    def next(self, ordered: bool = True) -> tf.Tensor:
        """Return the next seed; see `keras.random.SeedGenerator`."""
        seed = tf.convert_to_tensor(self._generator.next(ordered))
        return seed + tf.constant([self._fold, 0], seed.dtype)


def _own_number() -> int:
    context = tf.distribute.get_replica_context()
    return int(tf.get_static_value(context.replica_id_in_sync_group))


def _weighed(value: tf.Tensor, share: Any) -> tf.Tensor:
    """Return a value times a share; a share of 0 gives 0, even if the value is not finite."""
    share = as_dtype(share, value.dtype)
    return tf.where(share > 0, value * share, tf.zeros_like(value))
