"""One optimisation step: from a batch to updated weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from framework.engine.accumulator import Accumulator
from framework.engine.precision import LossScale
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.task import Task

Read = Callable[[Any], tuple[Any, Any]]  # batch index -> batch, its number of examples


class Engine:
    """What stands behind a task's `log`, `apply_gradients` and `global_step` while it runs.

    The steps below are what the compiled loop calls for each batch. Both ways to optimise go
    through one pipeline, `apply_gradients`, in this order:

        scale the loss -> gradients -> unscale -> one finite check -> apply

    Args:
        task: The task whose steps run; its model is built.
        optimizer: The built optimizer. None: weights are not to be changed.
        loss_scale: The loss scale of float16. None: gradients are applied as they are.
        eager: The steps will run in Python, not be compiled.

    Attributes:
        train: Where training values add up.
        means: Where the running step's values go: `train`, or an evaluation's own; None on the
            host, between steps.
    """

    def __init__(
        self,
        task: Task,
        *,
        optimizer: keras.Optimizer | None = None,
        loss_scale: LossScale | None = None,
        eager: bool = False,
    ) -> None:
        self.task, self.optimizer, self.loss_scale = task, optimizer, loss_scale
        # Compiled, a step may branch and loop on tensors with Python's own `if` and `for`.
        self._train_step = task.train_step if eager else autograph(task.train_step)
        self._eval_step = task.eval_step if eager else autograph(task.eval_step)
        self.predict_step = task.predict_step if eager else autograph(task.predict_step)
        self.train = Accumulator()
        self.means: Accumulator | None = None
        self._global_step: Any = 0
        self._weight: Any = 1
        self._applied = False

    def train_step(
        self, read: Read, before: Any, index: Any, examples: Any, _: Any
    ) -> tuple[Any, Any, Any]:
        """Learn from one batch: the body of the training loop."""
        batch, rows = read(index)
        with self._step(self.train, rows, before + index):
            if self.task.automatic_optimization:
                with tf.GradientTape() as tape:
                    loss = scalar_loss(self._train_step(batch), self.task)
                    loss = add_model_losses(loss, self.task.model)
                self.apply_gradients(tape, loss)
                if not self.train.has("loss"):
                    self.log("loss", loss)
            else:
                refuse_output(self._train_step(batch), self.task)
                if not self._applied:
                    raise UserError(
                        "train_step changed no weights",
                        where=f"{type(self.task).__name__}.train_step",
                        fix="Call self.apply_gradients(tape, loss), or set "
                        "automatic_optimization = True and return the loss.",
                    )
        return index + 1, examples + tf.cast(rows, tf.int64), tf.constant(True)

    def eval_step(
        self, means: Accumulator, read: Read, step: Any, index: Any, examples: Any, _: Any
    ) -> tuple[Any, Any, Any]:
        """Judge the model on one batch, into `means`: the body of an evaluation's loop."""
        batch, rows = read(index)
        with self._step(means, rows, step):
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

    def log(self, name: str, value: Any, weight: Any = None) -> None:
        """Note a value; see `Task.log`."""
        if self.means is None:
            stage = {"test": "test", "validate": "val"}.get(self.task.trainer.stage, "train")
            self.task.trainer.log_metrics({f"{stage}/{name}": float(value)})
            return
        self.means.log(name, value, self._weight if weight is None else weight)

    def apply_gradients(self, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        """Differentiate a loss and update the weights: the pipeline, in its order."""
        if self.optimizer is None or self.means is not self.train:
            raise UserError(
                "apply_gradients was called outside train_step", where=type(self.task).__name__
            )
        self._applied = True
        if not self.optimizer.built:  # the model is only being built; no update is wanted
            return
        variables = self.optimizer_variables
        scale = None if self.loss_scale is None else tf.cast(self.loss_scale.value, loss.dtype)
        gradients = tape.gradient(loss, variables, output_gradients=scale)
        if all(gradient is None for gradient in gradients):
            raise UserError(
                "the loss does not depend on any weight of the model",
                where=f"{type(self.task).__name__}.train_step",
                fix="Compute it from self.model's output, with TensorFlow or Keras operations, "
                "under the tape.",
            )
        if self.loss_scale is None:
            self.optimizer.apply(gradients, variables)
        else:
            gradients = self.loss_scale.unscale(gradients)
            optimizer = self.optimizer
            self.loss_scale.apply_if_finite(
                gradients, lambda: optimizer.apply(gradients, variables)
            )

    @property
    def optimizer_variables(self) -> list[keras.Variable]:
        """The weights that the optimizer updates."""
        return [
            v for model in models_of(self.task.model).values() for v in model.trainable_variables
        ]

    @property
    def global_step(self) -> Any:
        """Optimizer steps done before the step at hand; on the host, as an int, so far."""
        return self.task.trainer.progress.step if self.means is None else self._global_step

    @contextmanager
    def _step(self, means: Accumulator, examples: Any, global_step: Any) -> Iterator[None]:
        self.means, self._weight, self._global_step = means, examples, global_step
        self._applied = False
        means.discard()  # what a step noted that failed half-way
        try:
            yield
            means.add()
        finally:
            self.means = None


def models_of(model: Any) -> dict[str, keras.Model]:
    """Return a task's models by name; a single one is called `model`."""
    return dict(model) if isinstance(model, Mapping) else {"model": model}


def add_model_losses(loss: tf.Tensor, model: Any) -> tf.Tensor:
    """Add what layers have asked for, by regularizers and `add_loss`, in the loss's dtype."""
    terms = [term for m in models_of(model).values() for term in m.losses]
    return tf.add_n([loss, *(tf.cast(term, loss.dtype) for term in terms)]) if terms else loss


def scalar_loss(value: Any, task: Task) -> tf.Tensor:
    """Return a step's loss as a scalar of at least float32, or say what it is instead."""
    where = f"{type(task).__name__}.train_step"
    if value is None:
        raise UserError(
            "train_step returned None",
            where=where,
            fix="Return the scalar loss, or set automatic_optimization = False and call "
            "self.apply_gradients(tape, loss).",
        )
    try:
        loss = tf.convert_to_tensor(value)
    except (TypeError, ValueError):
        raise UserError(
            f"train_step returned a {type(value).__name__}, not a scalar loss",
            where=where,
            fix='Return the loss alone, and report the rest: self.log("accuracy", value).',
        ) from None
    if loss.shape.rank != 0 or not loss.dtype.is_floating:
        raise UserError(
            f"train_step returned a {loss.dtype.name} tensor of shape {loss.shape}, "
            "not a scalar loss",
            where=where,
            fix="Reduce it to its mean: tf.reduce_mean(loss).",
        )
    return loss if loss.dtype == tf.float64 else tf.cast(loss, tf.float32)


def refuse_output(value: Any, task: Task) -> None:
    """Complain of a manual step that returns something, which nobody would read."""
    if value is not None:
        raise UserError(
            "train_step returned a value, but automatic_optimization is False",
            where=f"{type(task).__name__}.train_step",
            fix='Report it with self.log("loss", loss) and return nothing, or set '
            "automatic_optimization = True.",
        )


def autograph(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function whose `if`, `for` and `while` on tensors become graph operations."""
    context = tf.__internal__.autograph.control_status_ctx()
    return tf.__internal__.autograph.tf_convert(function, context)  # type: ignore[no-any-return]
