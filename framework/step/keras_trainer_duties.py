"""The parts of an optimizer or a model that `Model.fit` calls, and the trainer replaces."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType
from typing import TYPE_CHECKING, Any

import keras

from framework.compat import check_known_variables
from framework.errors import UserError
from framework.step.precision import LossScale

if TYPE_CHECKING:
    from framework.task import Task

_log = logging.getLogger("framework")

_HOOKS = ("train_step", "test_step", "predict_step", "compute_loss", "compute_metrics")
"""Methods of a model that `Model.fit`, `evaluate` or `predict` call, but the trainer does not."""


def check_protocol(optimizer: keras.Optimizer) -> None:
    """Reject an optimizer that needs calls of `Model.fit` which the trainer does not make."""
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        why = "it distributes the weights among its own optimizers"
        fix = "Return a dict from configure_optimizers: {name: (optimizer, weights)} gives each "
        fix += "part of the weights its optimizer."
    elif overrides(optimizer, "scale_loss"):
        why = "its scale_loss would have to be called with the loss"
        fix = "Leave it out: with precision=mixed_float16 the trainer scales the loss."
    else:
        return
    what = f"{type(optimizer).__name__} cannot be used here: {why}"
    raise UserError(what, where="configure_optimizers", fix=fix)


def unwrapped(optimizer: keras.Optimizer) -> tuple[keras.Optimizer, LossScale | None]:
    """Return the optimizer in a `LossScaleOptimizer`, and a loss scale with its settings.

    The trainer scales the loss itself, since all optimizers and devices share one check.
    """
    if type(optimizer) is not keras.optimizers.LossScaleOptimizer:
        return optimizer, None
    scale = LossScale(optimizer.initial_scale, optimizer.dynamic_growth_steps)
    return optimizer.inner_optimizer, scale


def one_scale(first: LossScale | None, second: LossScale | None) -> LossScale | None:
    """Return the loss scale of several optimizers, or raise a UserError if theirs differ."""
    if first is None or second is None:
        return first or second
    same = float(first.value.numpy()) == float(second.value.numpy())
    if not same or first.growth_steps != second.growth_steps:
        raise UserError(
            "the optimizers are wrapped in LossScaleOptimizers with different settings",
            where="configure_optimizers",
            fix="Give all of them the same initial_scale and dynamic_growth_steps: a step has one "
            "loss scale.",
        )
    return first


def check_built(optimizer: keras.Optimizer, owned: Sequence[keras.Variable], where: str) -> None:
    """Reject an optimizer with slots for other weights, or that cannot average its weights."""
    try:
        check_known_variables(optimizer, owned)
    except ValueError:
        raise UserError(
            f"the {type(optimizer).__name__} was built for the weights of another model",
            where=where,
            fix="Give each task a separate optimizer: Task(optimizer=lambda: "
            "keras.optimizers.Adam(1e-3)).",
        ) from None
    values = [variable.path for variable in owned if overwrites(variable)]
    if values and optimizer.use_ema:
        raise UserError(
            f"use_ema cannot average {values[0]}, whose gradient is its new value",
            where=where,
            fix="Leave use_ema out and give callbacks=[EMA(0.99)].",
        )


def scaled(optimizer: keras.Optimizer, gradients: list[Any]) -> list[Any]:
    """Multiply gradients by `loss_scale_factor`, since the optimizer divides by it."""
    factor = optimizer.loss_scale_factor
    return gradients if factor is None else [g * factor for g in gradients]


def overwrites(variable: keras.Variable) -> bool:
    """Return whether a variable's gradient is its new value, as for a float8 scale."""
    return bool(getattr(variable, "overwrite_with_gradient", False))


def check_whole(variables: Iterable[keras.Variable]) -> None:
    """Reject variables with gradients that cannot be summed over devices or micro-batches."""
    for variable in variables:
        if overwrites(variable):
            raise UserError(
                f"the gradient of {variable.path} is its new value, which differs between the "
                "parts of a batch",
                where="trainer.devices, trainer.accumulate",
                fix="Train on one device and without accumulate, or leave float8 out.",
            )


@contextmanager
def left_to_trainer(optimizers: Iterable[keras.Optimizer], task: Task) -> Iterator[None]:
    """Raise a UserError if the body applies one of the trainer's optimizers itself.

    The trainer would not scale, clip or sum that update over devices, or would apply it twice.
    """
    own = list(optimizers)

    def refuse(*_: Any, **__: Any) -> None:
        what, fix = "train_step calls the optimizer's own apply_gradients or apply", "Call "
        if task.automatic_optimization:
            what += ", but the trainer already updates the weights"
            fix = "Return the loss alone; or set automatic_optimization = False and call "
        fix += "self.minimize(loss_fn) or self.apply_gradients(tape, loss)."
        raise UserError(what, where=f"{type(task).__name__}.train_step", fix=fix)

    try:
        for optimizer in own:
            optimizer.apply = refuse
        yield
    finally:
        for optimizer in own:
            vars(optimizer).pop("apply", None)


@contextmanager
def by_trainer(optimizer: keras.Optimizer) -> Iterator[None]:
    """Allow the trainer to apply an optimizer in the body."""
    refusal = vars(optimizer).pop("apply", None)
    try:
        yield
    finally:
        if refusal is not None:
            optimizer.apply = refusal


def warn_of_unused(task: Task, models: Mapping[str, keras.Layer]) -> None:
    """Warn about parts of the models that only `Model.fit` would use."""
    from framework.task import Task  # which imports this

    own = [vars(kind) for kind in type(task).__mro__ if kind not in Task.__mro__]
    methods = [each for names in own for each in names.values() if hasattr(each, "__code__")]
    called = {name for each in methods for name in _names_in(each.__code__)}
    chooses = type(task).configure_optimizers is not Task.configure_optimizers
    for model in models.values():
        if not isinstance(model, keras.Model) or not model.trainable_variables:
            continue
        hooks = [h for h in _HOOKS if _has_own(model, h) and h not in called]
        if hooks:
            _log.warning(
                "the trainer does not call %s of %s, unlike Model.fit. Do the same in "
                "%s.train_step and eval_step.",
                ", ".join(hooks),
                type(model).__name__,
                type(task).__name__,
            )
        if model.compiled and model.optimizer is not None and not chooses and not task.optimizer:
            _log.warning(
                "%s was compiled with %s, which Model.fit would use; the trainer uses the task's "
                "optimizer, adam by default. Give %s(optimizer=...).",
                model.name,
                type(model.optimizer).__name__,
                type(task).__name__,
            )


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names_in(inner)


def _has_own(model: keras.Model, hook: str) -> bool:
    method = getattr(type(model), hook)
    return method is not getattr(keras.Model, hook) and not method.__module__.startswith("keras.")


def overrides(optimizer: keras.Optimizer, method: str) -> bool:
    """Return whether an optimizer has a method of its own."""
    return getattr(type(optimizer), method) is not getattr(keras.Optimizer, method)
