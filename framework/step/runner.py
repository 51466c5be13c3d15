"""Runs one training, evaluation or prediction step: the body of the compiled loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import tensorflow as tf

from framework.core.autograph import autograph
from framework.devices.replicas import Batch, take_rows
from framework.errors import UserError
from framework.sources.rows_axis import map_rows
from framework.step.check_loss import (
    add_model_losses,
    forget_model_losses,
    refuse_output,
    scalar_loss,
)
from framework.step.context import EVALUATION, PREDICTION, TRAINING, TaskContext
from framework.step.current_step import Running
from framework.step.metric_sums import Accumulator
from framework.step.task_variables import assignable
from framework.step.update import Part
from framework.task import Task

_SETS_APART = 2**40  # batches
_PREDICT = Task.predict_step


class StepRunner(TaskContext):
    """Run a task's steps: the bodies of the compiled loop.

    Example:
        >>> runner = StepRunner(task, train=Accumulator(), update=update)
        >>> Loop(source, runner.train_step).run(Span(epoch=0, start=0, stop=100))

    Args:
        train: Accumulator of the training values.
        **options: See `TaskContext`.
    """

    def __init__(self, task: Task, *, train: Accumulator, **options: Any) -> None:
        super().__init__(task, **options)
        self.train = train
        self._micro_rows: int | None = None
        self._rows_axis: Any = 0
        # Compiled, a step may branch and loop on tensors with Python's own `if` and `for`.
        steps = (task.train_step, task.eval_step, task.predict_step)
        self._train_step, self._eval_step, self._predict_step = (
            step if self._eager else autograph(step, self._autograph) for step in steps
        )

    def taking(self, micro_rows: int | None, rows_axis: Any = 0) -> StepRunner:
        """Return a copy that computes a batch's gradient in pieces of `micro_rows` rows."""
        other = copy(self)
        vars(other).update(_micro_rows=micro_rows, _rows_axis=rows_axis)
        return other

    def train_step(self, batch: Batch, global_step: Any) -> tf.Tensor:
        """Train on one batch, and return its number of examples: the step of the training loop."""
        rows, share, place = batch.rows, _share(batch), (TRAINING, 0)
        running = Running(self.train, rows, share, global_step, training=True, place=place)
        with self._step(running), self.replicas.agreeing(self._assignable(training=True), share):
            if not self.task.automatic_optimization:
                refuse_output(self._train_step(batch.values), self.task)
                self._check_applied(running)
            elif self._micro_rows is None or self._building:
                forget_model_losses(self.task.model)
                with tf.GradientTape() as tape:
                    loss = scalar_loss(self._train_step(batch.values), self.task)
                    loss = add_model_losses(loss, self.task.model)
                self._log_loss(loss)
                if not self._building:
                    self._apply(running, [self._part(running, tape, loss, self._update.optimizers)])
            else:
                self._accumulate(running, batch)
        return tf.cast(rows, tf.int64)

    def eval_step(
        self, number: int, means: Accumulator, batch: Batch, global_step: Any
    ) -> tf.Tensor:
        """Evaluate the model on one batch of set `number`, whose values add up in `means`."""
        rows, share = batch.rows, _share(batch)
        place = (EVALUATION, batch.number + number * _SETS_APART)
        running = Running(means, rows, share, global_step, training=False, place=place)
        with self._step(running), self.replicas.agreeing(self._assignable(training=False), share):
            logs = self._eval_step(batch.values)
            if isinstance(logs, Mapping):
                for name, value in logs.items():
                    self.log(name, value)
            elif logs is not None:
                raise UserError(
                    f"eval_step returned a {type(logs).__name__}",
                    where=f"{type(self.task).__name__}.eval_step",
                    fix='Report values with self.log("loss", loss), or return a dict of them.',
                )
        return tf.cast(rows, tf.int64)

    def predict_step(self, number: int, batch: Any, index: Any) -> Any:
        """Return the predictions for batch `index` of a set."""
        if isinstance(self.task.model, Mapping) and type(self.task).predict_step is _PREDICT:
            raise UserError(
                f"the task has several models, {', '.join(self.task.model)}, and does not say "
                "which of them predicts",
                where=type(self.task).__name__,
                fix="Write predict_step: return self.model[name](batch[0], training=False).",
            )
        self._local.place = PREDICTION, index + number * _SETS_APART, 0
        try:
            return self._predict_step(batch)
        finally:
            self._local.place = None

    def _accumulate(self, outer: Running, batch: Batch) -> None:
        """Sum the gradients of a batch's pieces, weighted by examples, and update once."""
        rows = batch.rows
        update, size = self._update, self._micro_rows or 1
        chosen = [(each, update.optimizers.trainable(each)) for each in update.optimizers]
        variables = [v for _, own in chosen for v in own]
        connected: list[bool] = []
        # A device without rows takes part with the gradient of one row, with weight 0.
        nonzero = not isinstance(rows, int) or rows > 0

        def add(sums: list[Any], start: Any, length: Any) -> list[Any]:
            found = self._gradients_of(outer, batch, start, length, nonzero)
            connected[:] = [g is not None for g in found]
            dense = [
                tf.zeros_like(v) if g is None else g for g, v in zip(found, variables, strict=True)
            ]
            return [a + g for a, g in zip(sums, dense, strict=True)]

        sums: list[Any] = [tf.zeros_like(v) for v in variables]
        whole = rows // size if nonzero else 0
        if not isinstance(rows, int) or whole:
            _, sums = tf.while_loop(
                lambda i, _: i < whole,
                lambda i, s: (i + 1, add(s, i * size, size)),
                (tf.constant(0, tf.as_dtype(getattr(rows, "dtype", tf.int64))), sums),
            )
        rest = rows - whole * size if nonzero else 1
        if isinstance(rest, int):
            if rest:
                sums = add(sums, whole * size, rest)
        else:
            sums = tf.cond(
                rest > 0,
                lambda: add(sums, whole * size, rest),
                lambda: [tf.identity(a) for a in sums],
            )
        self._local.running = outer
        gradients = [g if known else None for g, known in zip(sums, connected, strict=True)]
        self._apply(outer, [Part(chosen, gradients)])

    def _gradients_of(
        self, outer: Running, batch: Batch, start: Any, length: Any, counts: bool
    ) -> Sequence[Any]:
        """Return the gradients of a piece of a batch, weighted by its share of all examples."""
        known = length if isinstance(length, int) else None
        part = map_rows(
            lambda t, axis: take_rows(
                t, start, start + length, batch.rows, length=known, axis=axis
            ),
            batch.values,
            self._rows_axis,
        )
        counted, place = length if counts else 0, (TRAINING, start)
        share, step = counted / batch.total, outer.global_step
        running = Running(outer.means, counted, share, step, training=True, place=place)
        with self._step(running):
            forget_model_losses(self.task.model)
            with tf.GradientTape() as tape:
                loss = scalar_loss(self._train_step(part), self.task)
                loss = add_model_losses(loss, self.task.model)
            self._log_loss(loss)
            return self._part(running, tape, loss, self._update.optimizers).gradients

    def _assignable(self, *, training: bool) -> list[Any]:
        """Return the variables that devices may assign differently; empty for one device."""
        if self.replicas.count == 1 or self._building:
            return []
        return assignable(self.task, self.update, training=training)

    def _check_applied(self, running: Running) -> None:
        if not running.applied:
            raise UserError(
                "train_step changed no weights",
                where=f"{type(self.task).__name__}.train_step",
                fix="Call self.minimize(loss_fn) or self.apply_gradients(tape, loss) instead of "
                "optimizer.apply_gradients, which bypasses the trainer; or set "
                "automatic_optimization = True and return the loss.",
            )


def _share(batch: Batch) -> Any:
    """Return this device's part of a step's examples; None where it has all of them."""
    return None if batch.total is batch.rows else batch.rows / batch.total
