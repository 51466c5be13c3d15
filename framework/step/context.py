"""Implements `StepContext`: what a task can do in its steps."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from framework.compat import autograph_context
from framework.core.autograph import autograph, not_converted
from framework.devices.replicas import Replicas
from framework.errors import UserError
from framework.random import fold
from framework.step.check_logged import check_name, mean_of, unless_empty, weight_of
from framework.step.check_loss import check_scalar, scalar_loss
from framework.step.current_step import Running
from framework.step.global_mean import global_mean
from framework.step.keras_trainer_duties import left_to_trainer
from framework.step.metric_sums import metric_result
from framework.step.precision import unscaled_gradient
from framework.step.task_variables import changing_variables, unowned
from framework.step.update import Part, Update

if TYPE_CHECKING:
    from framework.task import Task


_log = logging.getLogger("framework")

# Each of these has different random seeds.
TRAINING, EVALUATION, PREDICTION, HOST = range(4)


class TaskContext:
    """Implement a task's `log`, `minimize` and similar methods; a `StepContext`.

    Args:
        task: The task; its model is built.
        update: The pipeline of all optimization. None: weights cannot be changed.
        replicas: The devices.
        log_norms: Log the norms of gradients.
        eager: The steps run in Python instead of being compiled.
        building: The steps are only traced to build the model: nothing is updated.
    """

    def __init__(
        self,
        task: Task,
        *,
        update: Update | None = None,
        replicas: Replicas | None = None,
        log_norms: bool = False,
        eager: bool = False,
        building: bool = False,
    ) -> None:
        self.task, self.update, self._building = task, update, building
        self.replicas = replicas or Replicas("")
        self._log_norms = log_norms
        # Compiled, a step may branch and loop on tensors with Python's own `if` and `for`.
        self._eager, self._autograph = eager, autograph_context()
        self._looked, self._warned_of = False, list[str]()
        # Devices take turns in one step, each in a separate thread.
        self._local = threading.local()

    @not_converted
    def log(self, name: str, value: Any, weight: Any = None) -> None:
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
            mean = mean_of(value, where)
            given = weight_of(running.rows if weight is None else weight, where)
            given = unless_empty(value, given)
            if self.replicas.count > 1:  # a device without rows computes on another's row
                given = tf.where(tf.greater(running.rows, 0), given, tf.zeros_like(given))
            running.note(name, mean, given)

    @not_converted
    def minimize(self, loss_fn: Callable[[], Any], name: Any = None) -> Any:
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
        self._apply(running, [self._part(running, tape, each, of) for each, of in pairs])

    @not_converted
    def gradient(self, tape: tf.GradientTape, target: Any, sources: Any) -> Any:
        scale = None if self.update is None else self.update.scale
        if scale is None:
            return tape.gradient(target, sources)
        return unscaled_gradient(tape, target, sources, scale)

    @not_converted
    def gather(self, tensor: tf.Tensor) -> tf.Tensor:
        running = self._running
        if running is None or self._building or self.replicas.count == 1:
            return tensor
        tensor = tf.convert_to_tensor(tensor)
        # A device without rows computes on a row of another device.
        count = tf.where(tf.greater(running.rows, 0), tf.shape(tensor)[0], 0)
        return self.replicas.gather(tensor[:count])

    @not_converted
    def global_mean(self, values: Any, weights: Any) -> tf.Tensor:
        running = self._running
        if running is not None and running.is_piece:
            raise UserError(
                "global_mean needs the whole batch, but accumulate gives a step pieces of it",
                where=f"{type(self.task).__name__}.train_step",
                fix="Leave trainer.accumulate out, or give every row the same sum of weights and "
                "return a mean over rows.",
            )
        share = None if running is None or self._building else running.share
        return global_mean(values, weights, share, self.replicas)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        running = self._running
        if running is None:
            raise UserError(
                "snapshot works only in a step",
                where=type(self.task).__name__,
                fix="Call it in train_step or eval_step.",
            )
        variables = [] if self._building else changing_variables(self.task, self.update)
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
        running = self._running
        place = getattr(self._local, "place", None) if running is None else running.place
        if place is None:
            self._refuse_constant("step_seed")
        stage, number, *_ = place or (HOST, 0)
        step = self.global_step if stage in (TRAINING, HOST) else 0
        base = [tf.constant(self.task.trainer.config.seed, tf.int64), tf.cast(step, tf.int64)]
        context = tf.distribute.get_replica_context()
        device = 0 if context is None else context.replica_id_in_sync_group
        return fold(base, stage, number, device, draw)

    @property
    def global_step(self) -> Any:
        running = self._running
        if running is not None:
            return running.global_step
        if getattr(self._local, "place", None) is None:
            self._refuse_constant("global_step")
        return self.task.trainer.progress.step

    def _refuse_constant(self, name: str) -> None:
        """Reject a value that would be a constant of the function that is being compiled."""
        if tf.inside_function() and not self._building:
            raise UserError(
                f"{name} is read outside of a step, in a function that is compiled once",
                where=type(self.task).__name__,
                fix="Read it in train_step, eval_step or predict_step; Data(augment=...) receives "
                "a seed for every step.",
            )

    @property
    def _running(self) -> Running | None:
        return getattr(self._local, "running", None)

    @property
    def _update(self) -> Update:
        if self.update is None:
            raise UserError(
                "there is no optimizer here: only fit and tasks with automatic_optimization = "
                "False have optimizers",
                where=type(self.task).__name__,
                fix="Update weights in train_step, or set automatic_optimization = False.",
            )
        return self.update

    @contextmanager
    def _step(self, running: Running) -> Iterator[None]:
        means, rows = running.means, running.rows
        self._local.running = running
        held: list[Any] = []
        if self.replicas.count > 1 and (not isinstance(rows, int) or rows == 0):
            # A device without rows computes one row with weight 0, which Keras metrics would count,
            # also those among the task's attributes that no step has logged so far.
            held = keras.tree.flatten([*means.keras_metrics.values(), *vars(self.task).values()])
        metrics = [each for each in held if isinstance(each, keras.Metric)]
        spared = list({id(v): v for metric in metrics for v in metric.variables}.values())
        before = [tf.identity(v) for v in spared]
        own = self.update.optimizers if running.training and self.update is not None else ()
        try:
            with left_to_trainer([each.optimizer for each in own], self.task):
                yield
            if not self._building:
                means.add(running.logged)
            for variable, value in zip(spared, before, strict=True):
                variable.assign(tf.where(tf.greater(rows, 0), variable, value))
        finally:
            self._local.running = None

    def _part(
        self, running: Running, tape: tf.GradientTape, loss: tf.Tensor, optimizers: Iterable[Any]
    ) -> Part:
        """Differentiate a loss with respect to the weights of some optimizers."""
        update = self._update
        chosen = [(each, update.optimizers.trainable(each)) for each in optimizers]
        variables = [v for _, own in chosen for v in own]
        others: dict[str, Any] = {}
        if not (self._eager and self._looked):  # once per trace
            owned = [v for each in update.optimizers for v in each.owned]
            self._looked, others = True, unowned(self.task, tape, owned)
        found = update.gradients(tape, loss, [*variables, *others.values()], running.share)
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

    def _warn_of_unowned(self, names: list[str]) -> None:
        if names and names != self._warned_of:
            self._warned_of = names
            _log.warning(
                "the loss depends on weights that are not trained: %s. Return their layers from "
                'build_model ({"model": ..., "head": self.head}), create single variables with '
                "self.variable(name, value, trainable=True), or set trainable = False to keep "
                "them.",
                ", ".join(names),
            )

    def _apply(self, running: Running, parts: Sequence[Part]) -> None:
        training = running.training and not running.snapshots
        norms, finite = self._update.apply(parts, running.global_step, training=training)
        if self._log_norms and running.training:
            everything = len(list(self._update.optimizers))
            for part, norm in zip(parts, norms, strict=True):
                only = len(part.optimizers) == everything
                name = "grad_norm" if only else f"grad_norm/{part.name}"
                known = tf.cast(finite, tf.float64)
                self.log(name, tf.where(finite, norm, tf.zeros_like(norm)), weight=known)

    def _log_loss(self, loss: tf.Tensor) -> None:
        running = self._running
        if running is not None and not running.means.has("loss", running.logged):
            self.log("loss", loss)

    def _changing(self, name: str) -> Running:
        """Return the running step if it may change weights, else raise a UserError."""
        running = self._running
        if running is None or not (running.training or running.snapshots):
            raise UserError(
                f"{name} was called outside train_step",
                where=type(self.task).__name__,
                fix="In eval_step, train inside `with self.snapshot():`, which restores all "
                "weights.",
            )
        return running
