"""What a task can do in its steps, and what trainers keep with it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import keras
    import tensorflow as tf


class StepContext(Protocol):
    """What a task can do while one of its steps runs: `self.log` and the like lead here.

    The runner of the steps implements it; a test of a task may bring a small fake of its own.
    """

    def log(self, name: str, value: Any, weight: Any = None) -> None:
        """Report a value under the running stage's name: `train/…`, `val/…` or `test/…`.

        In a step it costs no host time: values add up on the device and are read when somebody
        asked. A tensor is averaged over its elements, and over batches weighted by their number
        of examples, so that a ragged last batch counts for what it is. A Keras metric that the
        step has updated is logged by its `result()`. What a step logs several times under one
        name becomes its mean.

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

    def minimize(self, loss_fn: Callable[[], Any], name: str | Sequence[str] | None = None) -> Any:
        """Compute a loss and update the weights by it, in manual optimisation.

        It may be called several times in a step, for one optimizer or for several. Loss scaling,
        reduction over devices, the check for overflow, clipping, the optimizer and averages are
        the trainer's, as in automatic mode. Nothing is added to the loss: neither `model.losses`
        nor anything else.

        Example:
            >>> for _ in range(3):
            ...     loss = self.minimize(lambda: self.critic_loss(images), "critic")
            >>> self.minimize(lambda: {"a": loss_a(), "b": loss_b()})  # both gradients, then both

        Args:
            loss_fn: Returns the loss, a scalar; or a dict of losses by the optimizer that each is
                for: all gradients are then computed before any weight changes.
            name: Which optimizer, or several. Default: the only one.

        Returns:
            What `loss_fn` returned: the loss, of at least float32, or the dict of them.

        Raises:
            UserError: Called outside `train_step` (or a `snapshot`), with
                `automatic_optimization` True, or for an optimizer that there is not.
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
            tape: The tape that recorded the loss, closed. For several losses, a persistent one.
            loss: A scalar tensor; or a dict of them by optimizer: all gradients are computed
                before any weight changes.
            name: Which optimizer, or several. Default: the only one.

        Raises:
            UserError: As `minimize`.
        """

    def gradient(self, tape: tf.GradientTape, target: Any, sources: Any) -> Any:
        """Return an inner gradient, such as a gradient penalty's, right in every precision.

        Under `mixed_float16` it is computed scaled, so that it does not vanish, and unscaled again
        in float32. Outside of that it is `tape.gradient(target, sources)`.

        Example:
            >>> with tf.GradientTape() as inner:
            ...     inner.watch(images)
            ...     scores = self.model["critic"](images, training=True)
            >>> slopes = self.gradient(inner, scores, images)

        Args:
            tape: The tape that recorded `target`.
            target: A tensor; of one that is no scalar, the sum is differentiated.
            sources: A tensor or variable, or a nest of them.

        Returns:
            A gradient for each source, of its shape.
        """

    def snapshot(self) -> AbstractContextManager[None]:
        """Put all weights and optimizers back when the body is over.

        For training inside an evaluation, as a meta-learner does: in `eval_step`, `minimize`
        works only in here.

        Example:
            >>> def eval_step(self, batch):
            ...     support, query = batch
            ...     with self.snapshot():
            ...         self.minimize(lambda: self.loss_of(support))
            ...         self.log("adapted", self.loss_of(query))
        """

    def gather(self, tensor: Any) -> Any:
        """Join a tensor of every device along its first axis; on one device it is returned as is.

        For what needs the whole batch: the negatives of a contrastive loss, or a queue of keys.

        Args:
            tensor: Of shape [rows, ...].

        Returns:
            Of shape [rows on all devices, ...].
        """

    def step_seed(self, draw: int) -> tf.Tensor:
        """Return a seed for `framework.random` or `tf.random.stateless_*`, in a step.

        It is another one for every training step, micro-batch, device, batch of an evaluation or
        a prediction, and draw; and the same in every run and every evaluation. `global_step`
        alone is the same on every device and in every micro-batch.

        Example:
            >>> noise = framework.random.normal(tf.shape(images), self.step_seed(), stddev=0.1)
            >>> mix = framework.random.uniform([rows, 1], self.step_seed(1))

        Args:
            draw: A number for each place in the step that draws.

        Returns:
            An int64 tensor of shape [2].
        """

    def global_mean(self, values: Any, weights: Any) -> Any:
        """Return sum(values * weights) / sum(weights) over the batch of all devices, in a step.

        For a mean over what a mask leaves: pieces of a batch may be left with different numbers,
        so that the mean of their means would be another. As a loss it gives the gradient of one
        device, and logged its value; on its own it is this device's part of the ratio.

        Example:
            >>> loss = self.global_mean(per_token, mask)      # [rows, length] each

        Args:
            values: A tensor of floats; 16-bit ones are taken as float32.
            weights: What each counts, a number or bool that broadcasts to the values. They get no
                gradient; a value of weight 0 is left out, finite or not.

        Returns:
            A scalar; 0 where all weights are 0.

        Raises:
            UserError: In a training step under `trainer.accumulate`, which shows it pieces only.
        """

    @property
    def global_step(self) -> Any:
        """Optimizer steps done before this one: an int64 tensor in a step, an int on the host."""


@dataclass
class TaskRuntime:
    """What trainers keep with a task from one run to the next; not for users.

    Attributes:
        context: What `self.log` and the like lead to. None: no run is at work.
        open_batches: Opens the training set to look at, while `fit` is at work.
        optimizers: From the first `fit` on.
        loss_scale: That of `mixed_float16`, likewise.
        weights: Whose weights the model has, as `result.json` says it. None: the initial ones.
        variables: What `Task.variable` has made, by name.
        followers: Models and their averaged copies with their decay, as `Task.ema_of` made them.
        averages: What keeps those copies, by name, once their models are built.
    """

    context: StepContext | None = None
    open_batches: Callable[[], Any] | None = None
    optimizers: Any = None
    loss_scale: Any = None
    weights: dict[str, Any] | None = None
    variables: dict[str, keras.Variable] = field(default_factory=dict)
    followers: list[tuple[Any, Any, float]] = field(default_factory=list)
    averages: dict[str, Any] = field(default_factory=dict)
