"""What a task can call in its steps, and what trainers store with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class StepContext(Protocol):
    """What a task can do while one of its steps runs; `self.log` and others delegate to it.

    The runner of the steps implements it. The test of a task may provide a small fake.
    """

    def log(self, name: str, value: Any, weight: Any = None) -> None:
        """Log a value under the running stage's name: `train/…`, `val/…` or `test/…`.

        In a step, logging costs no host time: values add up on the device and are read only when
        needed. A tensor is averaged over its elements, and over batches weighted by their number
        of examples, so that a smaller last batch counts correctly. A Keras metric that the step
        has updated is logged by its `result()`. If a step logs a name several times, the mean is
        logged.

        Example:
            >>> self.log("accuracy", keras.metrics.sparse_categorical_accuracy(y, p))
            >>> self.auc.update_state(y, p); self.log("auc", self.auc)

        Args:
            name: The name of the metric, without the stage.
            value: A number, a tensor of any shape, or a `keras.Metric`.
            weight: The weight of this batch in the mean. Default: its number of examples.

        Raises:
            UserError: Called outside a run, or in a branch or loop of a compiled step.
        """

    def minimize(self, loss_fn: Callable[[], Any], name: str | Sequence[str] | None = None) -> Any:
        """Compute a loss and update the weights with it, in manual optimization.

        A step may call it several times, for one optimizer or several. The trainer handles loss
        scaling, reduction over devices, the overflow check, clipping, the optimizer and averages,
        as in automatic optimization. Nothing is added to the loss, not even `model.losses`.

        Example:
            >>> for _ in range(3):
            ...     loss = self.minimize(lambda: self.critic_loss(images), "critic")
            >>> self.minimize(lambda: {"a": loss_a(), "b": loss_b()})  # both gradients, then both

        Args:
            loss_fn: Returns the loss, a scalar; or a dict of losses by optimizer: all gradients are
                then computed before any weight changes.
            name: The optimizer to use, or several. Default: the only one.

        Returns:
            The return value of `loss_fn`: the loss, in float32 or wider, or the dict of losses.

        Raises:
            UserError: Called outside `train_step` (or a `snapshot`), with
                `automatic_optimization` True, or for an optimizer that does not exist.
        """

    def apply_gradients(
        self, tape: tf.GradientTape, loss: Any, name: str | Sequence[str] | None = None
    ) -> None:
        """Update the weights from a tape that `train_step` opened itself; see `minimize`.

        Example:
            >>> automatic_optimization = False
            >>> def train_step(self, batch):
            ...     x, y = batch
            ...     with tf.GradientTape() as tape:
            ...         loss = self.loss(y, self.model(x, training=True))
            ...     self.apply_gradients(tape, loss)
            ...     self.log("loss", loss)

        Args:
            tape: The tape that recorded the loss, closed; persistent if there are several losses.
            loss: A scalar tensor; or a dict of losses by optimizer: all gradients are computed
                before any weight changes.
            name: The optimizer to use, or several. Default: the only one.

        Raises:
            UserError: As `minimize`.
        """

    def gradient(self, tape: tf.GradientTape, target: Any, sources: Any) -> Any:
        """Return an inner gradient, as for a gradient penalty, correct in every precision.

        Under `mixed_float16` it is computed scaled, so that it does not underflow, and then
        unscaled in float32. Otherwise it is `tape.gradient(target, sources)`.

        Example:
            >>> with tf.GradientTape() as inner:
            ...     inner.watch(images)
            ...     scores = self.model["critic"](images, training=True)
            >>> slopes = self.gradient(inner, scores, images)

        Args:
            tape: The tape that recorded `target`.
            target: A tensor. If it is not a scalar, its sum is differentiated.
            sources: A tensor or variable, or a nest of them.

        Returns:
            A gradient for each source, with its shape.
        """

    def snapshot(self) -> AbstractContextManager[None]:
        """Restore all weights and optimizers when the body ends.

        Use it to train inside an evaluation, as a meta-learner does: in `eval_step`, `minimize`
        works only inside a snapshot.

        Example:
            >>> def eval_step(self, batch):
            ...     support, query = batch
            ...     with self.snapshot():
            ...         self.minimize(lambda: self.loss_of(support))
            ...         self.log("adapted", self.loss_of(query))
        """

    def gather(self, tensor: Any) -> Any:
        """Concatenate a tensor from all devices on its first axis; on one device, return it as is.

        Use it for what needs the whole batch: the negatives of a contrastive loss, a queue of keys.

        Args:
            tensor: Of shape [rows, ...].

        Returns:
            A tensor of shape [rows on all devices, ...].
        """

    def step_seed(self, draw: int) -> tf.Tensor:
        """Return a seed for `framework.random` or `tf.random.stateless_*`, in a step.

        The seed differs for every training step, micro-batch, device, batch of an evaluation or a
        prediction, and draw. It is the same in every run and every evaluation. `global_step`, in
        contrast, is the same on every device and in every micro-batch.

        Example:
            >>> noise = framework.random.normal(tf.shape(images), self.step_seed(), stddev=0.1)
            >>> mix = framework.random.uniform([rows, 1], self.step_seed(1))

        Args:
            draw: A different number for each place in the step that draws.

        Returns:
            An int64 tensor of shape [2].
        """

    def global_mean(self, values: Any, weights: Any) -> Any:
        """Return sum(values * weights) / sum(weights) over the batch on all devices, in a step.

        Use it for a mean over masked values: the parts of a batch may keep different numbers of
        values, so the mean of their means would be wrong. As a loss it gives the gradient of a
        single device, and as a logged value, its value. By itself it is this device's share.

        Example:
            >>> loss = self.global_mean(per_token, mask)      # [rows, length] each

        Args:
            values: A tensor of floats; 16-bit floats are converted to float32.
            weights: The weight of each value, a number or bool that broadcasts to the values. They
                get no gradient. A value with weight 0 is ignored, finite or not.

        Returns:
            A scalar; 0 if all weights are 0.

        Raises:
            UserError: In a training step under `trainer.accumulate`, which sees only parts of it.
        """

    @property
    def global_step(self) -> Any:
        """Optimizer steps done before this one: an int64 tensor in a step, an int on the host."""


class Updates(Protocol):
    """What a callback may ask of the updates of weights, in `on_setup` of `fit`."""

    def scale(self, variables: Sequence[Any], factor: Callable[[Any], Any]) -> None:
        """Multiply every update of some weights, and their weight decay, by a factor.

        The factor takes the place of a learning rate of their own: `old + factor * (new - old)`,
        whatever the optimizer.

        Example:
            >>> run.updates.scale(backbone.trainable_variables, lambda step: 0.1)

        Args:
            variables: The weights.
            factor: Called in the graph with the number of steps done; returns a number.
        """

    def keep_gradients(self) -> None:
        """Keep the gradients of each step's last update, unscaled, summed and before clipping.

        This takes one more copy of the weights in the device's memory, and its writing.
        """

    def gradient(self, variable: Any) -> Any:
        """Return the kept gradient of a weight as an array, on the host; None if none is kept."""

    def load_gradient(self, variable: Any, value: Any) -> None:
        """Set the kept gradient of a weight, where a run continues before it trains again."""


@dataclass
class TaskRuntime:
    """What trainers store with a task from one run to the next; not for users.

    Attributes:
        context: The target of `self.log` and the like. None: no run is active.
        open_batches: Opens the training set for inspection while `fit` runs.
        optimizers: The optimizers, from the first `fit` on.
        loss_scale: The loss scale of `mixed_float16`, from the first `fit` on.
        weights: Which weights the model has, as in `result.json`. None: the initial ones.
        variables: The variables that `Task.variable` created, by name.
        followers: Models with their averaged copies and decay, as created by `Task.ema_of`.
        averages: The objects that update those copies, by name, once their models are built.
        preprocessing: What was done to the raw data; see `Data`.
    """

    context: StepContext | None = None
    open_batches: Callable[[], Any] | None = None
    optimizers: Any = None
    loss_scale: Any = None
    weights: dict[str, Any] | None = None
    variables: dict[str, keras.Variable] = field(default_factory=dict)
    followers: list[tuple[Any, Any, float]] = field(default_factory=list)
    averages: dict[str, Any] = field(default_factory=dict)
    preprocessing: Any = None
