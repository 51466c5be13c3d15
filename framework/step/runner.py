"""One training or evaluation step: from a batch to updated weights and logged values."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from framework.core.models import models_of
from framework.devices.replicas import Replicas, take_rows
from framework.errors import UserError
from framework.random import fold
from framework.sources.rows_axis import map_rows
from framework.step.accumulator import Accumulator, metric_result
from framework.step.autograph import autograph, not_converted
from framework.step.global_mean import global_mean
from framework.step.keras_protocol import left_to_trainer
from framework.step.log_values import check_name, mean_of, unless_empty, weight_of
from framework.step.losses import (
    add_model_losses,
    check_scalar,
    forget_model_losses,
    refuse_output,
    scalar_loss,
)
from framework.step.step_state import Running
from framework.step.update import Part, Update
from framework.step.variables import unowned

if TYPE_CHECKING:
    from framework.task import Task

# batch index -> batch, its number of examples, that of the whole step on all devices
Read = Callable[[Any], tuple[Any, Any, Any]]


_log = logging.getLogger("framework")

# Whose random numbers: each has seeds of its own.
_TRAINING, _EVALUATION, _PREDICTION, _HOST = range(4)

_SETS_APART = 2**40  # batches

_MOST_IN_FLOAT16 = 2.0**15  # the next power of two is infinite


class StepRunner:
    """What stands behind a task's `log`, `minimize`, `apply_gradients` and the like.

    The steps below are what the compiled loop calls for each batch. Every way to optimise goes
    through one pipeline, `Update`.

    Args:
        task: The task whose steps run; its model is built.
        update: The pipeline. None: weights cannot be changed.
        replicas: The devices.
        log_norms: Log the gradients' norms.
        eager: The steps will run in Python, not be compiled.
        building: The steps are only traced to build the model: nothing is updated.

    Attributes:
        train: Where training values add up.
    """

    def __init__(
        self,
        task: Task,
        *,
        train: Accumulator,
        update: Update | None = None,
        replicas: Replicas | None = None,
        log_norms: bool = False,
        eager: bool = False,
        building: bool = False,
    ) -> None:
        self.task, self.update, self._building = task, update, building
        self.replicas = replicas or Replicas("")
        self._micro_rows: int | None = None
        self._rows_axis: Any = 0
        self._log_norms = log_norms
        # Compiled, a step may branch and loop on tensors with Python's own `if` and `for`.
        self._eager, self._autograph = eager, tf.__internal__.autograph.control_status_ctx()
        steps = (task.train_step, task.eval_step, task.predict_step)
        self._train_step, self._eval_step, self._predict_step = (
            step if eager else autograph(step, self._autograph) for step in steps
        )
        self.train = train
        self._looked, self._warned_of = False, list[str]()
        # Devices take turns in one step, each in a thread of its own.
        self._local = threading.local()

    def taking(self, micro_rows: int | None, rows_axis: Any = 0) -> StepRunner:
        """Return the same engine, taking a batch's gradient in pieces of so many rows."""
        other = copy(self)
        other._micro_rows, other._rows_axis = micro_rows, rows_axis
        return other

    # ---- the bodies of the compiled loop

    def train_step(
        self, read: Read, before: Any, index: Any, examples: Any, _: Any
    ) -> tuple[Any, Any, Any]:
        """Learn from one batch: the body of the training loop."""
        batch, rows, total = read(index)
        share = None if total is rows else rows / total
        with (
            self._step(
                self.train, rows, before + index, share, training=True, place=(_TRAINING, 0)
            ) as running,
            self.replicas.agreeing(self._assignable(training=True), share),
        ):
            if not self.task.automatic_optimization:
                refuse_output(self._train_step(batch), self.task)
                self._check_applied(running)
            elif self._micro_rows is None or self._building:
                forget_model_losses(self.task.model)
                with tf.GradientTape() as tape:
                    loss = scalar_loss(self._train_step(batch), self.task)
                    loss = add_model_losses(loss, self.task.model)
                self._log_loss(loss)
                if not self._building:
                    self._apply([self._part(tape, loss, list(self._update.optimizers))])
            else:
                self._accumulate(batch, rows, total)
        return index + 1, examples + tf.cast(rows, tf.int64), tf.constant(True)

    def eval_step(
        self,
        number: int,
        means: Accumulator,
        read: Read,
        step: Any,
        index: Any,
        examples: Any,
        _: Any,
    ) -> tuple[Any, Any, Any]:
        """Judge the model on one batch of a set, into `means`: the body of an evaluation's loop."""
        batch, rows, total = read(index)
        share = None if total is rows else rows / total
        with (
            self._step(
                means,
                rows,
                step,
                share,
                training=False,
                place=(_EVALUATION, index + number * _SETS_APART),
            ),
            self.replicas.agreeing(self._assignable(training=False), share),
        ):
            logs = self._eval_step(batch)
            if isinstance(logs, Mapping):
                for name, value in logs.items():
                    self.log(name, value)
            elif logs is not None:
                raise UserError(
                    f"eval_step returned a {type(logs).__name__}",
                    where=f"{type(self.task).__name__}.eval_step",
                    fix='Report values with self.log("loss", loss), or return a dict of them.',
                )
        return index + 1, examples + tf.cast(rows, tf.int64), tf.constant(True)

    def predict_step(self, number: int, batch: Any, index: Any) -> Any:
        """Return what the model says of one batch of a set, the number of which is `index`."""
        self._local.place = _PREDICTION, index + number * _SETS_APART, 0
        try:
            return self._predict_step(batch)
        finally:
            self._local.place = None

    # ---- what a task calls

    @not_converted
    def log(self, name: str, value: Any, weight: Any = None) -> None:
        """Note a value; see `Task.log`."""
        running, where = self._running, f"{type(self.task).__name__}.log({name!r})"
        check_name(name, where)
        if running is None:
            stage = {"test": "test", "validate": "val"}.get(self.task.trainer.stage, "train")
            if isinstance(value, keras.Metric):
                mean = metric_result(name, value)
            else:
                mean = float(mean_of(value, where))
            self.task.trainer.log_metrics({f"{stage}/{name}": mean})
        elif isinstance(value, keras.Metric):
            self.replicas.check_metric(name, value)
            running.means.add_metric(name, value)
        else:
            given = weight_of(running.rows if weight is None else weight, where)
            given = unless_empty(value, given)
            if self.replicas.count > 1:  # a device without rows computes on one of another
                given = tf.where(tf.greater(running.rows, 0), given, tf.zeros_like(given))
            running.note(name, mean_of(value, where), given)

    @not_converted
    def minimize(self, loss_fn: Callable[[], Any], name: Any = None) -> Any:
        """Compute a loss under a tape and update by it; see `Task.minimize`."""
        self._changing("minimize")
        with tf.GradientTape(persistent=True) as tape:
            loss = loss_fn() if self._eager else autograph(loss_fn, self._autograph)()
            if isinstance(loss, Mapping):
                loss = {key: scalar_loss(each, self.task, key) for key, each in loss.items()}
            else:
                loss = scalar_loss(loss, self.task)
        self.apply_gradients(tape, loss, name)
        return loss

    @not_converted
    def apply_gradients(self, tape: tf.GradientTape, loss: Any, name: Any = None) -> None:
        """Differentiate a loss, or several, and update; see `Task.apply_gradients`."""
        running = self._changing("apply_gradients")
        running.applied = True
        if self._building:
            return
        optimizers = self._update.optimizers
        if isinstance(loss, Mapping):
            pairs = [(each, [optimizers.named(key)]) for key, each in loss.items()]
        else:
            names = name if isinstance(name, (list, tuple)) else [name]
            pairs = [(loss, [optimizers.named(each) for each in names])]
        for each, _ in pairs:
            where = f"{type(self.task).__name__}.train_step"
            check_scalar(tf.convert_to_tensor(each), "apply_gradients was given", where)
        self._apply([self._part(tape, each, of) for each, of in pairs])

    @not_converted
    def gradient(self, tape: tf.GradientTape, target: Any, sources: Any) -> Any:
        """Return an inner gradient; see `Task.gradient`."""
        scale = None if self.update is None else self.update.scale
        if scale is None:
            return tape.gradient(target, sources)
        factor = tf.minimum(scale, _MOST_IN_FLOAT16)
        seed = tf.nest.map_structure(lambda t: tf.ones_like(t) * tf.cast(factor, t.dtype), target)
        scaled = tape.gradient(target, sources, output_gradients=seed)

        def unscaled(gradient: Any) -> Any:
            if gradient is None:
                return None
            dtype = tf.float64 if gradient.dtype == tf.float64 else tf.float32
            return tf.cast(gradient, dtype) / tf.cast(factor, dtype)

        return tf.nest.map_structure(unscaled, scaled)

    @not_converted
    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        """Join a tensor of every device; see `Task.gather`."""
        running = self._running
        if running is None or self._building or self.replicas.count == 1:
            return tensor
        tensor = tf.convert_to_tensor(tensor)
        # A device without rows computes on one that is not its own.
        count = tf.where(tf.greater(running.rows, 0), tf.shape(tensor)[0], 0)
        return self.replicas.gather(tensor[:count])

    @not_converted
    def global_mean(self, values: Any, weights: Any) -> tf.Tensor:
        """Return a mean over the whole batch; see `Task.global_mean`."""
        running = self._running
        if running is not None and running.is_piece:
            raise UserError(
                "global_mean needs the whole batch, and accumulate shows a step pieces of it",
                where=f"{type(self.task).__name__}.train_step",
                fix="Leave trainer.accumulate out, or give every row the same sum of weights and "
                "return a mean over rows.",
            )
        share = None if running is None or self._building else running.share
        return global_mean(values, weights, share, self.replicas)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Put back afterwards whatever the body changes; see `Task.snapshot`."""
        running = self._running
        if running is None:
            raise UserError(
                "snapshot works only in a step",
                where=type(self.task).__name__,
                fix="Call it in train_step or eval_step.",
            )
        variables = [] if self._building else self._changing_variables()
        values = [tf.identity(v) for v in variables]
        running.snapshots += 1
        try:
            yield
        finally:
            running.snapshots -= 1
        if self._building:
            return

        def restore(values: list[Any]) -> None:
            for variable, value in zip(variables, values, strict=True):
                self.replicas.change(variable, lambda v, x: v.assign(x), value)

        self.replicas.together(restore, values)

    @not_converted
    def step_seed(self, draw: Any) -> tf.Tensor:
        """Return a seed that no other draw has; see `Task.step_seed`."""
        running = self._running
        place = getattr(self._local, "place", None) if running is None else running.place
        if place is None:
            self._refuse_constant("step_seed")
        stage, number, *_ = place or (_HOST, 0)
        step = self.global_step if stage in (_TRAINING, _HOST) else 0
        base = [tf.constant(self.task.trainer.config.seed, tf.int64), tf.cast(step, tf.int64)]
        context = tf.distribute.get_replica_context()
        device = 0 if context is None else context.replica_id_in_sync_group
        return fold(base, stage, number, device, draw)

    @property
    def global_step(self) -> Any:
        """Optimizer steps done before the step at hand; on the host, as an int, so far."""
        running = self._running
        if running is not None:
            return running.global_step
        if getattr(self._local, "place", None) is None:
            self._refuse_constant("global_step")
        return self.task.trainer.progress.step

    def _refuse_constant(self, name: str) -> None:
        """Refuse what would be the same in every call of a function that is compiled here."""
        if tf.inside_function() and not self._building:
            raise UserError(
                f"{name} is read outside of a step, in a function that is compiled once",
                where=type(self.task).__name__,
                fix="Read it in train_step, eval_step or predict_step; Data(augment=...) is given "
                "a seed for every step.",
            )

    # ---- parts

    @property
    def _running(self) -> Running | None:
        return getattr(self._local, "running", None)

    @property
    def _update(self) -> Update:
        if self.update is None:
            raise UserError(
                "there is no optimizer here: only fit, and tasks with automatic_optimization = "
                "False, have them",
                where=type(self.task).__name__,
                fix="Update weights in train_step, or set automatic_optimization = False.",
            )
        return self.update

    @contextmanager
    def _step(
        self,
        means: Accumulator,
        rows: Any,
        global_step: Any,
        share: Any,
        *,
        training: bool,
        place: tuple[int, Any],
    ) -> Iterator[Running]:
        running = Running(means, rows, share, global_step, training, place)
        self._local.running = running
        # A device that has no rows computes on one with weight 0, which Keras metrics do not know.
        may_be_none = self.replicas.count > 1 and (not isinstance(rows, int) or rows == 0)
        metrics = [*means.keras_metrics.values(), *_metrics_of(self.task)] if may_be_none else []
        spared = list({id(v): v for metric in metrics for v in metric.variables}.values())
        before = [tf.identity(v) for v in spared]
        known = self.update.optimizers if training and self.update is not None else ()
        try:
            with left_to_trainer([each.optimizer for each in known], self.task):
                yield running
            if not self._building:
                means.add(running.logged)
            for variable, value in zip(spared, before, strict=True):
                variable.assign(tf.where(tf.greater(rows, 0), variable, value))
        finally:
            self._local.running = None

    def _part(self, tape: tf.GradientTape, loss: tf.Tensor, optimizers: Sequence[Any]) -> Part:
        """Differentiate a loss by the weights of some optimizers."""
        update, running = self._update, self._running
        chosen = [(each, update.optimizers.trainable(each)) for each in optimizers]
        variables = [v for _, own in chosen for v in own]
        others = self._unowned_weights(tape)
        share = None if running is None else running.share
        found = update.gradients(tape, loss, [*variables, *others.values()], share)
        part = Part(chosen, found[: len(variables)])
        slopes = zip(others, found[len(variables) :], strict=True)
        self._warn_of_unowned([name for name, slope in slopes if slope is not None])
        if variables and all(g is None for g in part.gradients):
            of = f" of {part.name}" if len(list(update.optimizers)) > 1 else ""
            raise UserError(
                f"the loss does not depend on any weight{of or ' of the model'}",
                where=f"{type(self.task).__name__}.train_step",
                fix="Compute it from self.model's output, with TensorFlow or Keras operations, "
                "under the tape.",
            )
        return part

    def _unowned_weights(self, tape: tf.GradientTape) -> dict[str, Any]:
        """Return the weights that a step uses and nobody updates, when it is seen for once."""
        if self._eager and self._looked:
            return {}
        self._looked = True
        return unowned(self.task, tape, [v for each in self._update.optimizers for v in each.owned])

    def _warn_of_unowned(self, names: list[str]) -> None:
        if names and names != self._warned_of:
            self._warned_of = names
            _log.warning(
                "the loss depends on weights that are not trained: %s. Return what they are of "
                'from build_model ({"model": ..., "head": self.head}; a lone variable from '
                "self.variable(name, value, trainable=True)), or set trainable = False to keep "
                "them.",
                ", ".join(names),
            )

    def _apply(self, parts: Sequence[Part]) -> None:
        running = self._running
        if running is not None:
            running.applied = True
        norms, finite = self._update.apply(parts)
        if self._log_norms and running is not None and running.training:
            for part, norm in zip(parts, norms, strict=True):
                name = "grad_norm" if self._is_only(part) else f"grad_norm/{part.name}"
                known = tf.cast(finite, tf.float64)
                self.log(name, tf.where(finite, norm, tf.zeros_like(norm)), weight=known)

    def _is_only(self, part: Part) -> bool:
        return len(part.optimizers) == len(list(self._update.optimizers))

    def _log_loss(self, loss: tf.Tensor) -> None:
        running = self._running
        if running is not None and not running.means.has("loss", running.logged):
            self.log("loss", loss)

    def _accumulate(self, batch: Any, rows: Any, total: Any) -> None:
        """Add up the gradients of a batch's pieces, weighted by examples, and update once."""
        update, size = self._update, self._micro_rows or 1
        chosen = [(each, update.optimizers.trainable(each)) for each in update.optimizers]
        variables = [v for _, own in chosen for v in own]
        outer = self._running
        assert outer is not None
        connected: list[bool] = []
        # A device without rows takes part with the gradient of one, weighted by 0.
        nonzero = not isinstance(rows, int) or rows > 0

        def piece(start: Any, length: Any) -> list[Any]:
            known = length if isinstance(length, int) else None
            part = map_rows(
                lambda t, a: take_rows(t, start, start + length, rows, length=known, axis=a),
                batch,
                self._rows_axis,
            )
            counted = length if nonzero else 0
            with self._step(
                outer.means,
                counted,
                outer.global_step,
                counted / total,
                training=True,
                place=(_TRAINING, start),
            ):
                forget_model_losses(self.task.model)
                with tf.GradientTape() as tape:
                    loss = scalar_loss(self._train_step(part), self.task)
                    loss = add_model_losses(loss, self.task.model)
                self._log_loss(loss)
                found = self._part(tape, loss, list(update.optimizers)).gradients
            connected[:] = [g is not None for g in found]
            return [
                tf.zeros_like(v) if g is None else tf.convert_to_tensor(g)
                for g, v in zip(found, variables, strict=True)
            ]

        sums: list[Any] = [tf.zeros_like(v) for v in variables]
        whole = rows // size if nonzero else 0
        if not isinstance(rows, int) or whole:
            _, sums = tf.while_loop(
                lambda i, _: i < whole,
                lambda i, s: (
                    i + 1,
                    [a + g for a, g in zip(s, piece(i * size, size), strict=True)],
                ),
                (tf.constant(0, tf.as_dtype(getattr(rows, "dtype", tf.int64))), sums),
            )
        rest = rows - whole * size if nonzero else 1
        if isinstance(rest, int):
            if rest:
                sums = [a + g for a, g in zip(sums, piece(whole * size, rest), strict=True)]
        else:
            sums = tf.cond(
                rest > 0,
                lambda: [a + g for a, g in zip(sums, piece(whole * size, rest), strict=True)],
                lambda: [tf.identity(a) for a in sums],
            )
        self._local.running = outer
        gradients = [g if known else None for g, known in zip(sums, connected, strict=True)]
        self._apply([Part(chosen, gradients)])

    def _check_applied(self, running: Running) -> None:
        if not running.applied:
            raise UserError(
                "train_step changed no weights",
                where=f"{type(self.task).__name__}.train_step",
                fix="Call self.minimize(loss_fn) or self.apply_gradients(tape, loss) in the place "
                "of optimizer.apply_gradients, which the trainer does not see; or set "
                "automatic_optimization = True and return the loss.",
            )

    def _changing(self, name: str) -> Running:
        """Return the running step if it may change weights, or say why it may not."""
        running = self._running
        if running is None or not (running.training or running.snapshots):
            raise UserError(
                f"{name} was called outside train_step",
                where=type(self.task).__name__,
                fix="In eval_step, train inside `with self.snapshot():`, which puts all weights "
                "back.",
            )
        return running

    def _assignable(self, *, training: bool) -> list[Any]:
        """Return the floating-point variables that a step may assign but no optimizer updates."""
        if self.replicas.count == 1 or self._building:
            return []
        found = [v for v in self.task.runtime.variables.values() if not v.trainable]
        if training:
            models = models_of(self.task.model).values()
            found += [v for model in models for v in model.non_trainable_variables]
        averages = {} if self.update is None else self.update.averages
        pairs = [pair for a in averages.values() for pair in zip(a.sources, a.copies, strict=True)]
        # Weights are alike everywhere, and so are their averages; statistics are not until now.
        found += [copy for source, copy in pairs if training and not source.trainable]
        alike = {id(copy) for source, copy in pairs if source.trainable}
        unique = {id(v): v for v in found if "float" in str(v.dtype)}
        return [v for key, v in unique.items() if key not in alike]

    def _changing_variables(self) -> list[Any]:
        found = [v for model in models_of(self.task.model).values() for v in model.variables]
        found += self.task.runtime.variables.values()
        if self.update is not None:
            found += [v for each in self.update.optimizers for v in each.optimizer.variables]
            found += [copy for each in self.update.averages.values() for copy in each.copies]
            if self.update.loss_scale is not None:
                found += self.update.loss_scale.variables.values()
        return list({id(v): v for v in found}.values())


def _metrics_of(task: Task) -> list[keras.Metric]:
    """Return the Keras metrics that a task holds, before a step has logged them."""
    held = keras.tree.flatten(list(vars(task).values()))
    return [each for each in held if isinstance(each, keras.Metric)]
