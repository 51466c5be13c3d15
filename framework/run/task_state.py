"""The part of a checkpoint that belongs to a task: models, optimizers, averages, variables."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from framework.config import TrainerConfig
from framework.core.codec import NotHeld, hold, release
from framework.core.models_by_name import models_of
from framework.core.state import (
    LOADED,
    State,
    assign,
    check_variables,
    load_fitting,
    load_variables,
    variables_state,
)
from framework.core.user_code import user_code
from framework.devices.replicas import Replicas
from framework.errors import UserError
from framework.loop.written_variables import named
from framework.step.averaging import Average
from framework.step.find_objects import handles, saved_by_keras
from framework.step.layer_extras import (
    constants,
    layer_state,
    load_fitting_layers,
    load_layer_state,
)
from framework.step.precision import LossScale
from framework.step.task_variables import global_seed, held_variables, searched
from framework.step.update import Update
from framework.task import Task
from framework.text.tables import table

_log = logging.getLogger("framework")

_FITTING = ("variable", "outcome")


class TaskState:
    """The models, optimizers and averages of a task, as a state that checkpoints can store.

    Attributes:
        update: The pipeline that changes weights, or None where nothing may change them.
        averages: The averages of `Task.ema_of` and of callbacks, by name.
        written: Returns the variables that compiled steps write, by handle; set after compilation.
    """

    def __init__(self, task: Task, config: TrainerConfig, replicas: Replicas) -> None:
        self.task, self.config, self.replicas = task, config, replicas
        self.update: Update | None = None
        self.averages: dict[str, Average] = {}
        self.written: Callable[[], Mapping[int, str]] = dict

    @property
    def loss_scale(self) -> LossScale | None:
        """The loss scale of `mixed_float16`, else None."""
        return None if self.update is None else self.update.loss_scale

    def check_fits(self, state: State) -> None:
        """Refuse a state with variables of other shapes; this does not look at their values."""
        for name, model in models_of(self.task.model).items():
            saved = state.get("models", {}).get(name, {})
            check_variables(model.variables, saved, f"model {name!r}")
        if self.update is not None and state.get("optimizers"):
            self.update.optimizers.check_fits(state["optimizers"])

    def load_models(self, state: State) -> None:
        """Load the models' variables, and the other state of their layers."""
        for name, model in models_of(self.task.model).items():
            load_variables(model.variables, state["models"].get(name, {}), f"model {name!r}")
        load_layer_state(self._layers(), state.get("layers", {}))

    def constants(self) -> State:
        """Return what compiled steps treat as constant: the vocabularies and statistics of layers.

        Empty if the layers keep only variables.
        """
        return constants(self._layers())

    def load_weights(self, state: State) -> None:
        """Load from a checkpoint what an evaluation needs: everything except the optimizers.

        A task with manual optimization needs the optimizers, too.
        """
        self._load_own(state["task"])
        for name, variable in self._held().items():
            value = state["held"].get(name)
            if value is not None and np.shape(value) == tuple(variable.shape):
                assign(variable, value)
        self.load_models(state)
        if state.get("host") is not None:
            with user_code(f"{type(self.task).__name__}.load_state_dict"):
                self.task.load_state_dict(release(state["host"]))
        for name, average in self.averages.items():
            if name in state["averages"]:
                average.load_state(state["averages"][name])
            else:  # a new average starts from the loaded weights
                average.restart()
        if self.update is not None and state["optimizers"]:
            self.update.optimizers.load_state(state["optimizers"])
            if self.loss_scale is not None and state["loss_scale"]:
                self.loss_scale.load_state(state["loss_scale"])
        self._diversify()

    def weights(self) -> State:
        """Return the variables of the models and the task."""
        models = models_of(self.task.model).items()
        return {
            "models": {name: variables_state(model.variables) for name, model in models},
            "task": {k: v.numpy() for k, v in self.task.runtime.variables.items()},
        }

    def state(self) -> State:
        """Return the variables of models, task, averages, optimizers and loss scale."""
        return {
            **self.weights(),
            "averages": {name: average.state() for name, average in self.averages.items()},
            "optimizers": self.update.optimizers.state() if self.update else {},
            "loss_scale": self.loss_scale.state() if self.loss_scale else {},
            "held": {k: np.asarray(v.numpy()) for k, v in self._held().items()},
            "layers": layer_state(self._layers()),
            "host": self._host_state(),
            "seed": {} if global_seed() is None else {"state": global_seed().numpy()},
        }

    def load_state(self, state: State) -> None:
        """Restore what `state` returned."""
        self.load_weights(state)
        self._warn_of_lost(state["held"])
        if state["seed"]:
            global_seed(make=True).assign(state["seed"]["state"])

    def _warn_of_lost(self, held: Mapping[str, Any]) -> None:
        own = {name: tuple(variable.shape) for name, variable in self._held().items()}
        lost = [name for name, value in held.items() if own.get(name) != np.shape(value)]
        if lost:
            _log.warning(
                "these variables of the checkpoint are missing from the task or have another shape "
                "there; they start again: %s. Create them in build_model or on_setup.",
                ", ".join(lost),
            )

    def load_fitting(self, state: State) -> list[tuple[str, str]]:
        """Load the weights of models that match in name and shape, of which there must be some.

        Returns:
            The outcome for each: (variable, `loaded` or the reason why not). Variables of the
            checkpoint that match nothing come last.
        """
        report: list[tuple[str, str]] = []
        weights = {**state, **state.get("finalized", {})}["models"]
        for name, model in models_of(self.task.model).items():
            report += load_fitting(model.variables, weights.get(name, {}), name)
        if not any(outcome == LOADED for _, outcome in report):
            raise UserError(
                "no weight in the checkpoint fits the model\n" + table(_FITTING, report),
                where="weights_only=true",
                fix="Restore the former names of the layers, or give another checkpoint=.",
            )
        layers = saved_by_keras({"model": models_of(self.task.model)})
        load_fitting_layers(layers, state.get("layers", {}))
        self._diversify()
        return report

    def _diversify(self) -> None:
        seeds = [v for model in models_of(self.task.model).values() for v in model.variables]
        self.replicas.diversify([*seeds, *self._held().values()])

    def check_written(self, internal: Iterable[Any]) -> None:
        """Refuse steps that assign to something that no checkpoint stores.

        `internal` are the trainer's own variables, which it saves in other ways or resets.
        """
        layer_state(self._layers())  # also refuses a layer that cannot be saved
        saved = [*self._known(), *self._held().values(), *internal]
        if global_seed() is not None:
            saved.append(global_seed())
        known = {handle for variable in saved for handle in handles(variable)}
        others = [pair for pair in self.written().items() if pair[0] not in known]
        lost = sorted(name for name in (named(*pair) for pair in others) if name)
        if lost:
            raise UserError(
                f"a step assigns {', '.join(lost)}, which no checkpoint would store",
                where=type(self.task).__name__,
                fix='Create it in build_model with self.variable("name", 0.0), or keep it as an '
                "attribute of the task, and keep the content of tables in variables; or train "
                "without checkpoints: enable_checkpointing=false.",
            )

    def _known(self) -> list[Any]:
        """Return the variables that are stored separately in a state."""
        models = [
            *models_of(self.task.model).values(),
            *(copy for _, copy, _ in self.task.runtime.followers),
        ]
        optimizers = [] if self.update is None else list(self.update.optimizers)
        known = [v for model in models for v in model.variables]
        known += [v for each in optimizers for v in each.optimizer.variables]
        known += [copy for average in self.averages.values() for copy in average.copies]
        known += self.loss_scale.variables.values() if self.loss_scale else []
        known += self.update.extras.variables if self.update else []
        return [*known, *self.task.runtime.variables.values()]

    def _held(self) -> dict[str, Any]:
        """Return the variables that the task holds besides its models."""
        optimizers = [] if self.update is None else list(self.update.optimizers)
        updated = [v for each in optimizers for v in each.owned]
        written = None if self.config.engine == "eager" else set(self.written())
        return held_variables(self.task, self._known(), updated, written)

    def _layers(self) -> dict[str, Any]:
        """Return the objects in the task that Keras would save in its own ways, by path."""
        copies = [copy for _, copy, _ in self.task.runtime.followers]
        made = [] if self.update is None else [each.optimizer for each in self.update.optimizers]
        return saved_by_keras({**searched(self.task), "ema_of": copies, "optimizers": made})

    def _host_state(self) -> Any:
        default, where = Task.state_dict, f"{type(self.task).__name__}.state_dict"
        with user_code(where):
            state = self.task.state_dict()
        try:
            return hold(state) if type(self.task).state_dict is not default else None
        except NotHeld as error:
            raise UserError(
                f"state_dict returned {error}, which no checkpoint can store",
                where=where,
                fix="Return numbers, text, None, NumPy arrays, and lists, tuples, sets, deques and "
                "dicts of these; of a NumPy generator its bit_generator.state.",
            ) from error

    def _load_own(self, state: Mapping[str, Any]) -> None:
        for name, variable in self.task.runtime.variables.items():
            if name not in state or np.shape(state[name]) != tuple(variable.shape):
                raise UserError(
                    f"the checkpoint has no variable {name!r} of shape {tuple(variable.shape)}",
                    where=f'{type(self.task).__name__}.variable("{name}")',
                    fix="Use the task that the checkpoint was saved from.",
                )
            assign(variable, state[name])
