"""`Task`: the class that users subclass."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from framework.errors import UserError
from framework.metrics import named_metrics
from framework.step_context import StepContext, TaskRuntime

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class Task(abc.ABC):
    """Define a model, how it learns from one batch, and how it is evaluated.

    Subclass it, write `build_model`, `train_step` and `eval_step`, and pass an instance to a
    `Trainer`. The steps are compiled, so they must use TensorFlow operations; `engine="eager"` runs
    them line by line in Python.

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

    Args:
        data: A `Data`, or a function that returns one. Default: the data given to `Trainer.fit`.
        optimizer: A Keras optimizer, its name, or a function that returns one. Default: `"adam"`.
            For several optimizers, override `configure_optimizers`.
        loss: Available to the steps as `self.loss`; the framework itself does not use it.
        metrics: For `log_metrics`: functions `(y_true, y_pred)`, Keras metrics, or their names.

    Attributes:
        automatic_optimization: True: `train_step` returns the scalar loss; the engine computes the
            gradients, including the model's own losses (`model.losses`), and updates the weights.
            False: `train_step` calls `minimize` or `apply_gradients` any number of times,
            returns None, and counts as one global step.
        needs_eager: True: the steps call Python, so `engine=auto` becomes `eager`. `build_model`
            must then return built models.
        loss_is_mean: Whether a loss is the mean over its rows, as several devices and `accumulate`
            require; if so, this is checked.
        model: The return value of `build_model`. None until the trainer has called it.
        trainer: The active `Trainer`. None before.
        built_for: The precision for which the trainer built the model. None before.
    """

    automatic_optimization: bool = True
    needs_eager: bool = False
    loss_is_mean: bool = True

    data: Any = None
    optimizer: Any = None
    loss: Any = None
    metrics: Mapping[str, Any] | None = None
    model: Any = None
    trainer: Any = None
    built_for: str | None = None

    def __init__(
        self,
        *,
        data: Any = None,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
    ) -> None:
        self.data, self.optimizer, self.loss = data, optimizer, loss
        self.metrics = named_metrics(metrics)

    @abc.abstractmethod
    def build_model(self) -> Any:
        """Return the network: a `keras.Model` or a layer, or a dict of them by name.

        It is stored as `self.model`. Unbuilt models are built from the shape of the first batch.
        """

    @abc.abstractmethod
    def train_step(self, batch: Any) -> Any:
        """Compute the loss of one batch.

        Args:
            batch: One batch of the training data, as the data set yields it.

        Returns:
            The scalar loss, logged as `train/loss`; None if `automatic_optimization` is False.
        """

    @abc.abstractmethod
    def eval_step(self, batch: Any) -> Any:
        """Evaluate the model on one batch of validation or test data, with `self.log`.

        Args:
            batch: One batch, as the data set yields it: a tuple, a dict, any nest of tensors.

        Returns:
            None, or a mapping of names to values; each is logged as by `self.log`.
        """

    def predict_step(self, batch: Any) -> Any:
        """Return the model's prediction for one batch: any nest of tensors.

        The default calls the model on the batch, or on its first element if it is a tuple.
        """
        inputs = batch[0] if isinstance(batch, (tuple, list)) else batch
        return self.model(inputs, training=False)

    def build_data(self) -> Any:
        """Return the `Data` for training, validation, test and prediction. Default: `self.data`."""
        return self.data() if callable(self.data) else self.data

    def configure_optimizers(self) -> Any:
        """Return the optimizer, or several by name. Default: `self.optimizer`, else Adam.

        It is called when the models are built. A later `fit` calls it again only if
        `self.optimizer` was replaced or frozen weights became trainable; otherwise a second `fit`
        continues with the same optimizers and weights. Each optimizer has its own learning-rate
        schedule, which counts its own updates. With several optimizers and
        `automatic_optimization`, each updates its part of the weights by the one loss.

        Example:
            >>> return {
            ...     "head": (keras.optimizers.Adam(1e-3), self.model.get_layer("head")),
            ...     "body": (keras.optimizers.Adam(1e-5), self.model.get_layer("body")),
            ... }
            >>> return {"critic": keras.optimizers.Adam(1e-4)}   # the model of that name

        Returns:
            A Keras optimizer for all trainable weights; or a dict of optimizers by name. In a dict,
            a plain optimizer updates the model with its name; in (optimizer, weights), weights is a
            model, a layer, a Keras variable, or a list of these.
        """
        import keras

        optimizer = "adam" if self.optimizer is None else self.optimizer
        if callable(optimizer) and not isinstance(optimizer, keras.Optimizer):
            optimizer = optimizer()
        return keras.optimizers.get(optimizer)

    def configure_callbacks(self) -> Sequence[Any]:
        """Return the callbacks of this task. Default: none."""
        return ()

    def state_dict(self) -> dict[str, Any]:
        """Return further state of the task to save in checkpoints. Default: nothing.

        Use it for state on the host: a replay buffer, a NumPy generator. Variables are saved
        automatically.

        Example:
            >>> def state_dict(self):
            ...     return {"level": self.level}
            >>> def load_state_dict(self, state):
            ...     self.level = state["level"]

        Returns:
            Numbers, text, None, NumPy arrays, and containers of these.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned: before `on_fit_start`, or before an evaluation."""

    def on_setup(self) -> None:
        """Run once in every stage; models are built, but no step is compiled."""

    def on_fit_start(self) -> None:
        """Run once before the first step, on the host; the model is built."""

    def on_fit_end(self) -> None:
        """Run once after the last step, however the run ended."""

    def on_epoch_start(self) -> None:
        """Run before the first step of each epoch, on the host."""

    def on_epoch_end(self) -> None:
        """Run after the last step of each epoch and its validation, on the host."""

    def log(self, name: str, value: Any, weight: Any = None) -> None:
        """Log a value under the running stage's name; see `StepContext.log`."""
        self._running().log(name, value, weight)

    def log_metrics(self, y_true: Any, y_pred: Any) -> None:
        """Log every configured metric (`self.metrics`) of one batch of labels and predictions."""
        import keras

        for name, metric in (self.metrics or {}).items():
            if isinstance(metric, keras.Metric):
                metric.update_state(y_true, y_pred)
                self.log(name, metric)
            else:
                self.log(name, metric(y_true, y_pred))

    def minimize(self, loss_fn: Callable[[], Any], name: str | Sequence[str] | None = None) -> Any:
        """Compute a loss and update the weights with it; see `StepContext.minimize`."""
        self._refuse_automatic("minimize")
        return self._running().minimize(loss_fn, name)

    def apply_gradients(
        self, tape: tf.GradientTape, loss: Any, name: str | Sequence[str] | None = None
    ) -> None:
        """Update the weights from a tape; see `StepContext.apply_gradients`."""
        self._refuse_automatic("apply_gradients")
        self._running().apply_gradients(tape, loss, name)

    def gradient(self, tape: tf.GradientTape, target: Any, sources: Any) -> Any:
        """Return an inner gradient; see `StepContext.gradient`."""
        return self._running().gradient(tape, target, sources)

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Restore all weights and optimizers when the body ends; see `StepContext.snapshot`."""
        with self._running().snapshot():
            yield

    def gather(self, tensor: Any) -> Any:
        """Concatenate a tensor from all devices on its first axis; see `StepContext.gather`."""
        return self._running().gather(tensor)

    def step_seed(self, draw: int = 0) -> tf.Tensor:
        """Return a seed for one draw in a step; see `StepContext.step_seed`."""
        return self._running().step_seed(draw)

    def global_mean(self, values: Any, weights: Any) -> Any:
        """Return a weighted mean over the whole batch; see `StepContext.global_mean`."""
        return self._running().global_mean(values, weights)

    def to_float32(self, tensors: Any) -> Any:
        """Return a nest of tensors with 16-bit floats cast to float32, and the rest unchanged."""
        import tensorflow as tf

        from framework.core.dtypes import to_float32

        return tf.nest.map_structure(to_float32, tensors)

    def variable(
        self, name: str, initial: Any = None, *, trainable: bool = False
    ) -> keras.Variable:
        """Return a variable of the task, saved with every checkpoint.

        Create it in `build_model`, with `initial`; elsewhere, look it up by name.

        Example:
            >>> self.variable("queue", tf.zeros((4096, 128)))        # in build_model
            >>> self.variable("queue").assign(keys)                  # in train_step

        Args:
            name: The name of the variable.
            initial: The initial value: a number, an array or a tensor.
            trainable: Whether the only optimizer updates it, too.

        Returns:
            The variable. If devices assign different floats, they are averaged after the step.
        """
        found = self.runtime.variables.get(name)
        if found is None:
            from framework.core.created_variables import state_variable

            found = state_variable(type(self).__name__, name, initial, trainable=trainable)
            self.runtime.variables[name] = found
        return found

    state = variable  # its earlier name

    def ema_of(self, model: keras.Model, decay: float, copy: keras.Model | None = None) -> Any:
        """Return an averaged copy of a model, updated after every update of the model.

        For a momentum encoder or a mean teacher. Call it in `build_model`. The copy is not
        trainable; its statistics, such as batch norm's, are averaged like the weights.

        Example: `return {"online": online, "target": self.ema_of(online, 0.99)}`

        Args:
            model: The model to average.
            decay: The fraction of itself that the copy keeps at an update, from 0 to 1.
            copy: The copy itself, if Keras cannot clone the model.
        """
        from framework.core.created_variables import clone

        made = clone(model, decay, copy, where=f"{type(self).__name__}.build_model")
        self.runtime.followers.append((model, made, decay))
        return made

    @property
    def train_data(self) -> tf.data.Dataset | None:
        """One epoch of the training batches of `fit`, for layers that `build_model` adapts to data.

        The batches are in the data's own order, not augmented, and without the rows that
        `val_fraction` holds out. A stream is read once more for each pass.

        Example:
            >>> def build_model(self):
            ...     normalize = keras.layers.Normalization()
            ...     if self.train_data is not None:
            ...         normalize.adapt(self.train_data.map(lambda x, y: x))
            ...     return keras.Sequential([normalize, keras.layers.Dense(1)])

        Returns:
            A dataset of batches, infinite if the set is infinite. None outside of `fit`, where the
            adapted state comes from the checkpoint.
        """
        if self.runtime.open_batches is None:
            return None
        from framework.sources.as_dataset import as_dataset

        return as_dataset(self.runtime.open_batches())

    @property
    def runtime(self) -> TaskRuntime:
        """What trainers store with the task from one run to the next."""
        found: TaskRuntime = self.__dict__.setdefault("_runtime", TaskRuntime())
        return found

    @property
    def global_step(self) -> Any:
        """Optimizer steps done before this one: an int64 tensor in a step, an int on the host."""
        return self._running().global_step

    @property
    def total_steps(self) -> int | None:
        """Planned optimizer steps in total, or None if unknown."""
        return None if self.trainer is None else self.trainer.total_steps

    def _refuse_automatic(self, name: str) -> None:
        if self.automatic_optimization:
            raise UserError(
                f"{name} was called in automatic optimization",
                where=f"{type(self).__name__}.train_step",
                fix="Set automatic_optimization = False, or return the loss instead.",
            )

    def _running(self) -> StepContext:
        if self.runtime.context is None:
            raise UserError(
                "log, minimize, global_step and the like work only while a Trainer runs the task",
                where=type(self).__name__,
                fix="Call Trainer(...).fit(task), and use them in its steps and hooks.",
            )
        return self.runtime.context
