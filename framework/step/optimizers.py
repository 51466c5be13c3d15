"""A task's optimizers by name, and the weights of each one."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras

from framework.core.state import State, check_variables, load_variables, variables_state
from framework.errors import UserError, choice
from framework.step.keras_trainer_duties import (
    check_built,
    check_protocol,
    one_scale,
    overrides,
    unwrapped,
)
from framework.step.precision import LossScale

_log = logging.getLogger("framework")
_MUCH = 0.5  # warn if a larger share of the average is initial weights

ONLY = "optimizer"
"""The name of an optimizer that was given without one."""


@dataclass(frozen=True)
class NamedOptimizer:
    """A Keras optimizer, its name in `minimize`, and the weights it owns, frozen or not."""

    name: str
    optimizer: keras.Optimizer
    owned: tuple[keras.Variable, ...]


class Optimizers:
    """Check and normalize what `Task.configure_optimizers` returned.

    Example:
        >>> optimizers = Optimizers({"critic": keras.optimizers.Adam()}, models, where="...")
        >>> [each.name for each in optimizers]
        ['critic']

    Args:
        configured: An optimizer, or a dict of optimizers by name. A value is an optimizer, which
            updates the model of its name, or `(optimizer, weights)`, where weights are a model, a
            layer, a variable, or a list of these.
        models: The task's models by name.
        extra: The task's own trainable variables; a single optimizer updates them too.
        exclusive: Reject a weight that two optimizers update.
        prepare: Applied to each optimizer, such as `Replicas.own`.
        given: The task's `optimizer`, from which `configure_optimizers` created them.
        where: The method that configured them, for messages.

    Attributes:
        loss_scale: The loss scale of a `LossScaleOptimizer` among them, if there is one.

    Raises:
        UserError: If `configured` is something else, an optimizer has no weights, or an optimizer
            is given twice.
    """

    def __init__(
        self,
        configured: Any,
        models: Mapping[str, keras.Layer],
        *,
        extra: Sequence[keras.Variable] = (),
        exclusive: bool = False,
        prepare: Callable[[keras.Optimizer], keras.Optimizer] = lambda optimizer: optimizer,
        given: Any = None,
        where: str = "configure_optimizers",
    ) -> None:
        self._models, self._where, self._prepare, self._given = models, where, prepare, given
        self._learning = set(self._learning_now())
        self.loss_scale: LossScale | None = None
        self._all: dict[str, NamedOptimizer] = {}
        self._seen: set[int] = set()
        if not isinstance(configured, Mapping):
            weights = [v for model in models.values() for v in model.trainable_variables]
            configured = {ONLY: (configured, [*weights, *extra])}
        for name, given in configured.items():
            self._add(str(name), given)
        if not self._all:
            raise self._error(
                "configure_optimizers returned no optimizer",
                "Return one, or a dict of them by name.",
            )
        if exclusive:
            self._refuse_shared()

    def __iter__(self) -> Iterator[NamedOptimizer]:
        return iter(self._all.values())

    @property
    def factor(self) -> float | None:
        """The largest `loss_scale_factor` of the optimizers, or None."""
        factors = [each.optimizer.loss_scale_factor for each in self]
        return max((f for f in factors if f is not None), default=None)

    def named(self, name: str | None) -> NamedOptimizer:
        """Return an optimizer by name, or without a name the only one."""
        if name is None and len(self._all) == 1:
            return next(iter(self._all.values()))
        if name not in self._all:
            names = ", ".join(self._all)
            raise self._error(
                f"there is no optimizer {name!r}" if name else "which optimizer is meant?",
                choice(name, self._all) if name else f"Give its name, one of: {names}.",
            )
        return self._all[name]

    def suit(self, given: Any) -> bool:
        """Return whether another run, with the task's optimizer `given`, may reuse them."""
        return given is self._given and self._learning.issuperset(self._learning_now())

    def prepare(self, function: Callable[[keras.Optimizer], keras.Optimizer]) -> None:
        """Apply a function, such as `Replicas.own`, to each built optimizer."""
        self._all = {
            k: replace(each, optimizer=function(each.optimizer)) for k, each in self._all.items()
        }

    def _error(self, what: str, fix: str) -> UserError:
        return UserError(what, where=self._where, fix=fix)

    def _learning_now(self) -> dict[int, keras.Variable]:
        return {id(v): v for m in self._models.values() for v in m.trainable_variables}

    def trainable(self, each: NamedOptimizer) -> list[keras.Variable]:
        """Return the weights of an optimizer that are not frozen now."""
        known = {id(v) for model in self._models.values() for v in model.variables}
        learning = self._learning_now()
        return [v for v in each.owned if id(v) in learning or id(v) not in known]

    def build(self) -> None:
        """Create the slots of every optimizer, before anything is traced."""
        for each in self:
            each.optimizer.build(list(each.owned))
            check_built(each.optimizer, each.owned, self._where)

    def made(self) -> dict[str, Any]:
        """Return the optimizers' arguments by `<name>.<argument>`, as JSON values.

        Optimizers with updates are left out, since their rates may have changed.
        """
        found: dict[str, Any] = {}
        for each in self:
            if each.optimizer.built and int(each.optimizer.iterations.numpy()):
                continue
            arguments = {**_config(each.optimizer), "name": type(each.optimizer).__name__}
            text = json.dumps(arguments, default=_plain)
            made = json.loads(text, parse_float=lambda digits: float(f"{float(digits):.7g}"))
            found |= {f"{each.name}.{key}": value for key, value in made.items()}
        return found

    def state(self) -> State:
        """Return the optimizers' variables by name."""
        return {each.name: variables_state(each.optimizer.variables) for each in self}

    def check_fits(self, state: Mapping[str, Any]) -> None:
        """Reject a state that does not fit the variables; see `check_variables`."""
        for each in self:
            check_variables(
                each.optimizer.variables, state.get(each.name, {}), f"optimizer {each.name!r}"
            )

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        for each in self:
            load_variables(
                each.optimizer.variables, state.get(each.name, {}), f"optimizer {each.name!r}"
            )

    def _add(self, name: str, given: Any) -> None:
        paired = isinstance(given, (tuple, list))
        if paired and len(given) != 2:
            raise self._error(
                f"the optimizer {name!r} is given as {len(given)} things",
                "Give only the optimizer, or a pair: (optimizer, weights).",
            )
        optimizer, weights = given if paired else (given, None)
        label = f" for {name!r}" if name != ONLY else ""
        if not isinstance(optimizer, keras.Optimizer):
            raise self._error(
                f"configure_optimizers returned a {type(optimizer).__name__}{label}",
                "Return a Keras optimizer, keras.optimizers.Adam(1e-3), or a dict of them by name.",
            )
        optimizer, scale = unwrapped(optimizer)
        self.loss_scale = one_scale(self.loss_scale, scale)
        check_protocol(optimizer)
        if id(optimizer) in self._seen:
            raise self._error(
                f"one optimizer is given twice, the second time{label}",
                "Create one for each name: its slots belong to its weights.",
            )
        if weights is None:
            if name not in self._models:
                raise self._error(
                    f"which weights does the optimizer {name!r} update?",
                    "Name it after a model, or give both: {name: (optimizer, weights)}.",
                )
            weights = self._models[name]
        owned = tuple({id(v): v for v in self._weights(weights, name)}.values())
        if not owned:
            raise self._error(
                f"the optimizer {name!r} has no weights to update" if label else
                "the model has no weights to update",
                "Give it a model that has trainable weights.",
            )  # fmt: skip
        self._seen.add(id(optimizer))
        self._all[name] = NamedOptimizer(name, self._prepare(optimizer), owned)

    def _weights(self, given: Any, name: str) -> Iterable[keras.Variable]:
        if isinstance(given, (list, tuple)):
            for each in given:
                yield from self._weights(each, name)
        elif isinstance(given, keras.Layer):
            yield from given.trainable_variables
        elif isinstance(given, str) and given in self._models:
            yield from self._models[given].trainable_variables
        elif isinstance(given, keras.Variable):
            yield given
        else:
            raise self._error(
                f"the optimizer {name!r} is given a {type(given).__name__} to update",
                "Give a model, a layer, keras variables, or a list of these.",
            )

    def _refuse_shared(self) -> None:
        owners: dict[int, str] = {}
        for each in self:
            for variable in each.owned:
                other = owners.setdefault(id(variable), each.name)
                if other != each.name:
                    raise self._error(
                        f"{variable.path} is updated by {other!r} and by {each.name!r}",
                        "Give every weight one optimizer, or set automatic_optimization = "
                        "False and choose the optimizer in train_step.",
                    )


def _config(optimizer: keras.Optimizer) -> dict[str, Any]:
    try:
        with warnings.catch_warnings():  # Keras warns of a rate that is a lambda
            warnings.simplefilter("ignore")
            return dict(optimizer.get_config())
    except Exception:  # such as a rate without source code, or a class without get_config
        return {}


def _plain(value: Any) -> Any:
    """Convert a value that JSON does not support to one that is the same in every process."""
    return float(value) if hasattr(value, "__float__") else type(value).__name__


def finalizes(optimizers: Iterable[NamedOptimizer]) -> bool:
    """Return whether an optimizer sets final values of the weights, as with `use_ema`."""
    return any(map(_finalizes, optimizers))


def finalize(optimizers: Iterable[NamedOptimizer]) -> None:
    """Let each optimizer set the final values of its weights, as `Model.fit` does at its end."""
    for each in filter(_finalizes, optimizers):
        each.optimizer.finalize_variable_values(list(each.owned))
        _warn_of_young(each)


def _finalizes(each: NamedOptimizer) -> bool:
    optimizer = each.optimizer
    if not (optimizer.use_ema or overrides(optimizer, "finalize_variable_values")):
        return False
    # Before the first update there is no average yet, only zeros.
    return bool(optimizer.iterations.numpy())


def _warn_of_young(each: NamedOptimizer) -> None:
    optimizer, updates = each.optimizer, int(each.optimizer.iterations.numpy())
    if not optimizer.use_ema or optimizer.ema_overwrite_frequency:
        return
    left = optimizer.ema_momentum ** (updates - 1)
    if left > _MUCH:
        _log.warning(
            "use_ema: after %d updates the average, which now replaces the weights, is still "
            "%.0f %% those after the first update. Give the %s a smaller ema_momentum (now %g).",
            updates,
            100 * left,
            type(optimizer).__name__,
            optimizer.ema_momentum,
        )
