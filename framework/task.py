"""`Task`: what a user writes."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framework.errors import UserError

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from framework.callbacks.base import Callback
    from framework.engine.step import Engine


class Task(abc.ABC):
    """What to learn: a model, what one batch teaches it, and how it is judged.

    Subclass it, write `build_model`, `train_step` and `eval_step`, and hand it to a `Trainer`.
    The trainer owns the rest: the compiled loop, precision, devices, callbacks, logs. The steps
    are compiled, so they hold TensorFlow operations; `engine="eager"` runs them line by line.

    Example:
        >>> class Regression(Task):
        ...     def build_model(self):
        ...         return keras.Sequential([keras.layers.Dense(1)])
        ...     def train_step(self, batch):
        ...         x, y = batch
        ...         return tf.reduce_mean((self.model(x, training=True) - y) ** 2)
        ...     def eval_step(self, batch):
        ...         x, y = batch
        ...         self.log("mae", tf.abs(self.model(x) - y))
        >>> Trainer(max_epochs=3).fit(Regression(optimizer="sgd"), Data(train=(x, y)))

    A batch is whatever the data gives, a tuple, a dict, any nest of tensors, and is passed on
    untouched.

    Args:
        data: A `Data`, or a function without arguments that makes one. Default: `build_data`
            must be overridden, or `Trainer.fit` be given data.
        optimizer: A Keras optimizer, its name, or a function without arguments that makes one.
            Default: `"adam"`.
        loss: What the steps make of it; nothing in the framework reads it.
        metrics: Functions `(y_true, y_pred)` or Keras metrics by name, for `log_metrics`.

    Attributes:
        automatic_optimization: True: `train_step` returns the scalar loss and the engine
            differentiates it, adds the model's own losses (`model.losses`), and updates the
            weights. False: `train_step` opens its own tape, calls `apply_gradients`, and
            returns None.
        model: What `build_model` returned. None before the trainer has called it.
        trainer: The `Trainer` at work. None before.
    """

    automatic_optimization: bool = True

    data: Any = None
    optimizer: Any = None
    loss: Any = None
    metrics: Mapping[str, Any] | None = None
    model: Any = None
    trainer: Any = None
    _engine: Engine | None = None

    def __init__(
        self,
        *,
        data: Any = None,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        self.data, self.optimizer, self.loss, self.metrics = data, optimizer, loss, metrics

    @abc.abstractmethod
    def build_model(self) -> Any:
        """Return the network: a `keras.Model`, or a dict of them by name.

        It is kept as `self.model`. It need not be built: a `Sequential` without an `Input` and a
        subclass are built from the first batch's shape.
        """

    @abc.abstractmethod
    def train_step(self, batch: Any) -> Any:
        """Learn from one batch.

        Args:
            batch: One batch of the training data, as the data gives it.

        Returns:
            The loss, a scalar tensor, logged as `train/loss`; None if `automatic_optimization`
            is False.
        """

    @abc.abstractmethod
    def eval_step(self, batch: Any) -> Any:
        """Judge the model on one batch of validation or test data, with `self.log`.

        Args:
            batch: One batch, as the data gives it.

        Returns:
            None, or a mapping of names to values, each logged as by `self.log`.
        """

    def predict_step(self, batch: Any) -> Any:
        """Return what the model says of one batch: any nest of tensors.

        The default calls the model on the batch, or on its first element if it is a tuple.
        """
        inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
        return self.model(inputs, training=False)

    def build_data(self) -> Any:
        """Return the `Data` to train, validate, test and predict on. Default: `self.data`."""
        return self.data() if callable(self.data) else self.data

    def configure_optimizers(self) -> keras.Optimizer:
        """Return the optimizer. Default: what `self.optimizer` names or makes, else Adam."""
        import keras

        optimizer = "adam" if self.optimizer is None else self.optimizer
        if callable(optimizer) and not isinstance(optimizer, keras.Optimizer):
            optimizer = optimizer()
        return keras.optimizers.get(optimizer)

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return callbacks that belong to this task. Default: none."""
        return ()

    def on_fit_start(self) -> None:
        """Run once before the first step, on the host; the model is built."""

    def on_fit_end(self) -> None:
        """Run once after the last step, however the run ended."""

    def on_epoch_start(self) -> None:
        """Run before the first step of each epoch, on the host."""

    def on_epoch_end(self) -> None:
        """Run after the last step of each epoch and its validation, on the host."""

    def log(self, name: str, value: Any, weight: Any = None) -> None:
        """Report a value under the running stage's name: `train/…`, `val/…` or `test/…`.

        In a step it costs no host time: values add up on the device and are read when somebody
        asked. A tensor is averaged over its elements, and over batches weighted by their number
        of examples, so that a ragged last batch counts for what it is. A Keras metric that the
        step has updated is logged by its `result()`.

        Example:
            >>> self.log("accuracy", keras.metrics.sparse_categorical_accuracy(y, p))
            >>> self.auc.update_state(y, p); self.log("auc", self.auc)

        Args:
            name: The metric's name, without the stage.
            value: A number, a tensor of any shape, or a `keras.Metric`.
            weight: What this batch counts in the mean. Default: its number of examples.

        Raises:
            UserError: Called outside a run, or in a branch or loop of a compiled step.
        """
        self._running().log(name, value, weight)

    def log_metrics(self, y_true: Any, y_pred: Any) -> None:
        """Log every configured metric (`self.metrics`) of one batch.

        Args:
            y_true: The labels, as the metrics take them.
            y_pred: The predictions, of the same leading shape.
        """
        import keras

        for name, metric in (self.metrics or {}).items():
            if isinstance(metric, keras.Metric):
                metric.update_state(y_true, y_pred)
                self.log(name, metric)
            else:
                self.log(name, metric(y_true, y_pred))

    def apply_gradients(self, tape: tf.GradientTape, loss: tf.Tensor) -> None:
        """Update the weights from a tape that `train_step` opened itself.

        Loss scaling, the check for overflow, and the optimizer are the trainer's as in automatic
        mode. The model's own losses (`model.losses`) are not added: the loss is yours.

        Example:
            >>> automatic_optimization = False
            >>> def train_step(self, batch):
            ...     x, y = batch
            ...     with tf.GradientTape() as tape:
            ...         loss = self.loss(y, self.model(x, training=True))
            ...     self.apply_gradients(tape, loss)
            ...     self.log("loss", loss)

        Args:
            tape: The tape that recorded the loss, closed.
            loss: A scalar tensor.

        Raises:
            UserError: Called outside `train_step`, or with `automatic_optimization` True.
        """
        if self.automatic_optimization:
            raise UserError(
                "apply_gradients was called in automatic optimization",
                where=f"{type(self).__name__}.train_step",
                fix="Set automatic_optimization = False, or return the loss instead.",
            )
        self._running().apply_gradients(tape, loss)

    @property
    def global_step(self) -> Any:
        """Optimizer steps done before this one: an int64 tensor in a step, an int on the host."""
        return self._running().global_step

    @property
    def total_steps(self) -> int | None:
        """Optimizer steps planned in all, or None where that cannot be told."""
        return None if self.trainer is None else self.trainer.total_steps

    def _running(self) -> Engine:
        if self._engine is None:
            raise UserError(
                "log, apply_gradients and global_step work only while a Trainer runs the task",
                where=type(self).__name__,
                fix="Call Trainer(...).fit(task), and use them in its steps and hooks.",
            )
        return self._engine
