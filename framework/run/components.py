"""Bringing a task, its data and its options together, before anything runs or is written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from framework.config import TrainerConfig
from framework.core.codec import NotHeld, hold, release
from framework.core.models import models_of
from framework.core.state import (
    LOADED,
    State,
    check_variables,
    load_fitting,
    load_variables,
    variables_state,
)
from framework.core.user_code import user_code
from framework.data import Data
from framework.devices.replicas import Replicas
from framework.errors import UserError
from framework.loop.written import named
from framework.sources.arrays import ArraySource
from framework.sources.open import larger_batches, open_batches, open_eval, open_train
from framework.sources.source import Source, batch_rows
from framework.step.accumulator import Accumulator
from framework.step.averaging import Average
from framework.step.build import build_by_tracing, build_model, is_built
from framework.step.generators import generators, set_aside
from framework.step.keras_protocol import warn_of_unused
from framework.step.layer_state import (
    constants,
    layer_state,
    load_fitting_layers,
    load_layer_state,
)
from framework.step.mean_check import check_mean
from framework.step.optimizers import Optimizers
from framework.step.precision import LossScale
from framework.step.reachable import handles, saved_by_keras
from framework.step.runner import StepRunner
from framework.step.update import Update
from framework.step.variables import global_seed, held_variables, searched, task_followers
from framework.text.tables import table

if TYPE_CHECKING:
    from framework.task import Task


_log = logging.getLogger("framework")

_FITTING = ("variable", "outcome")


class Components:
    """A run's models, optimizers, loss scale and data.

    Args:
        task: Whose they are; a model that it has already is kept.
        config: The trainer's options.
        replicas: The devices.
        data_info: What `result.json` says of the data; this adds to it.

    Attributes:
        update: The pipeline that changes weights, or None where nothing may change them.
        averages: What `Task.ema_of` and callbacks keep, by name, whether weights change or not.
    """

    def __init__(
        self, task: Task, config: TrainerConfig, replicas: Replicas, data_info: dict[str, Any]
    ) -> None:
        self.task, self.config, self.replicas = task, config, replicas
        self.update: Update | None = None
        self.made_optimizers: dict[str, Any] = {}  # see `Optimizers.made`
        self.averages: dict[str, Average] = {}
        self.data_info = data_info
        self._streams = False  # whether threads that read ahead may draw random numbers
        # What compiled steps write, by handle; see `written`. The trainer sets it when they are.
        self.written: Callable[[], Mapping[int, str]] = dict

    def open_fit(self, data: Any) -> tuple[dict[int, Source], dict[str, Source]]:
        """Open the training set, once for each number of batches to accumulate, and validation."""
        config, data = self.config, self._data(data)
        if not self.task.automatic_optimization and config.accumulates:
            raise UserError(
                "the trainer cannot accumulate gradients for a task that optimises by hand",
                where="trainer.accumulate",
                fix=f"Leave it out, and {larger_batches(data, config)}; or add up losses in "
                "train_step.",
            )
        held: dict[int, Any] = {}
        limit = config.overfit_batches or config.limit_train_batches
        self.task.runtime.open_batches = lambda: open_batches(
            data, seed=config.seed, limit=limit, held=held
        )
        train = {
            batches: open_train(
                data,
                seed=config.seed,
                limit=config.limit_train_batches,
                overfit=config.overfit_batches,
                accumulate=batches,
                restart=config.resume_data == "restart",
                held=held,
            )
            for batches in sorted(set(config.accumulate_by_epoch.values()))
        }
        self._count_rows("train", next(iter(train.values())))
        self._streams = not isinstance(next(iter(train.values())), ArraySource)
        stage = "overfit" if config.overfit_batches else "val"
        limit = config.overfit_batches or config.limit_val_batches
        evaluated = open_eval(data, stage, seed=config.seed, limit=limit, held=held)
        self._count_rows("val", *evaluated.values())
        return train, evaluated

    def open_eval(self, data: Any, stage: str, limit: int | float) -> dict[str, Source]:
        """Open the sets of a stage: `val`, `test` or `predict`.

        Raises:
            UserError: There are none.
        """
        sources = open_eval(self._data(data), stage, seed=self.config.seed, limit=limit)
        if not sources:
            raise UserError(
                f"there is no {stage} data",
                where=f"Data({stage}=...)",
                fix=f"Give Data({stage}=(x, y)), or return it from Task.build_data.",
            )
        self._count_rows(stage, *sources.values())
        return sources

    def engine_for(
        self, sources: Mapping[str, Source], step: str, train: Accumulator
    ) -> StepRunner:
        """Build the models, and the optimizers if needed, for batches like the sources'.

        Args:
            sources: The sets; the first one tells a batch's shape.
            step: `train_step`, `eval_step` or `predict_step`.
            train: Where training values add up.
        """
        task, config = self.task, self.config
        if task.model is None:
            keras.utils.set_random_seed(config.seed)
            task.metrics = self._on_all_devices(task.metrics)
            task.model = build_model(task)
            task.built_for = config.precision
        elif task.built_for not in (None, config.precision):
            raise UserError(
                f"the task's model was built for {task.built_for}",
                where=f"trainer.precision={config.precision}",
                fix=f"Give precision={task.built_for!r}, or make the task anew.",
            )
        # On several devices it cannot be made while a step is traced.
        global_seed(everywhere=self.replicas.count > 1)
        if not is_built(task.model):
            with user_code("Data.map or Data.augment"):
                source = next(iter(sources.values()))
                spec = source.spec()
            self._build(spec, source.rows_axis, step)
        self._check_placed(models_of(task.model))
        self.averages = task_followers(task)
        # A task that optimises by hand may also do so inside an evaluation.
        if step == "train_step" or (step == "eval_step" and not task.automatic_optimization):
            self.update = self._make_update()
            self.update.averages = self.averages
        self._diversify()
        pieces = self.replicas.count > 1 or config.accumulates
        if step == "train_step" and pieces and task.loss_is_mean and not task.needs_eager:
            source = next(iter(sources.values()))
            check_mean(task, source.spec(), source.rows_axis, source.sample)
        engine = task.runtime.context = StepRunner(
            task,
            train=train,
            update=self.update,
            replicas=self.replicas,
            log_norms=config.log_grad_norm,
            eager=config.engine == "eager",
        )
        return engine

    def add_average(self, name: str, average: Average) -> None:
        """Keep an average beside the weights, saved and restored with them under a name."""
        number = 1
        while (key := name if number == 1 else f"{name}-{number}") in self.averages:
            number += 1
        self.averages[key] = average

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Put averages that are to be evaluated in the place of the weights for the body."""
        with ExitStack() as stack:
            for average in self.averages.values():
                if average.evaluate and average.ready:
                    stack.enter_context(average.in_place())
            yield

    def undrawn(self, written: Mapping[int, str] | None) -> AbstractContextManager[None]:
        """Return the context in which an evaluation draws random numbers that are its own.

        Args:
            written: What its compiled steps write. None: that cannot be told.
        """
        models = [v for model in models_of(self.task.model).values() for v in model.variables]
        found = [*models, *self._held().values()]
        # Where steps run in Python, an evaluation may be the first to draw from it.
        shared = global_seed(make=self.config.engine == "eager")
        found += [] if shared is None else [shared]
        known = None if written is None or self.config.engine == "eager" else set(written)
        return set_aside(generators(found, known), self.config.seed, host=not self._streams)

    @property
    def averages_in_place(self) -> list[str]:
        """The names of the averages that `averaged` puts in the place of the weights."""
        return [name for name, each in self.averages.items() if each.evaluate and each.ready]

    @property
    def loss_scale(self) -> LossScale | None:
        """The loss scale of `mixed_float16`, else None."""
        return None if self.update is None else self.update.loss_scale

    def precision_values(self) -> dict[str, float]:
        """Return what a row says of the loss scale, if there is one."""
        scale = self.loss_scale
        if scale is None:
            return {}
        skipped = float(scale.skipped.numpy())
        return {"train/loss_scale": float(scale.value.numpy()), "train/skipped_updates": skipped}

    def check_fits(self, state: State) -> None:
        """Refuse a checkpoint's state whose variables have other shapes; values are not looked at.

        Raises:
            UserError: It is of another model, or of another optimizer.
        """
        for name, model in models_of(self.task.model).items():
            saved = state.get("models", {}).get(name, {})
            check_variables(model.variables, saved, f"model {name!r}")
        if self.update is not None and state.get("optimizers"):
            self.update.optimizers.check_fits(state["optimizers"])

    def load_models(self, state: State) -> None:
        """Take the models' variables, and what their layers keep besides, from a state."""
        for name, model in models_of(self.task.model).items():
            load_variables(model.variables, state["models"].get(name, {}), f"model {name!r}")
        load_layer_state(self._layers(), state.get("layers", {}))

    def constants(self) -> State:
        """Return what compiled steps take for constant: the vocabularies and statistics of layers.

        Empty where layers keep nothing but variables.
        """
        return constants(self._layers())

    def load_weights(self, state: State) -> None:
        """Take what an evaluation needs from a checkpoint's state: everything but the optimizers.

        A task that optimises by hand needs those too.
        """
        self._load_own(state["task"])
        for name, variable in self._held().items():
            value = state["held"].get(name)
            if value is not None and np.shape(value) == tuple(variable.shape):
                variable.assign(value)
        self.load_models(state)
        if state.get("host") is not None:
            with user_code(f"{type(self.task).__name__}.load_state_dict"):
                self.task.load_state_dict(release(state["host"]))
        for name, average in self.averages.items():
            if name in state["averages"]:
                average.load_state(state["averages"][name])
            else:  # one that the checkpoint does not know begins with what it does know
                average.restart()
        if self.update is not None and state["optimizers"]:
            self.update.optimizers.load_state(state["optimizers"])
            if self.loss_scale is not None and state["loss_scale"]:
                self.loss_scale.load_state(state["loss_scale"])
        self._diversify()

    def weights(self) -> State:
        """Return the variables of models and task."""
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
        """Take back what `state` returned."""
        self.load_weights(state)
        self._warn_of_lost(state["held"])
        if state["seed"]:
            global_seed(make=True).assign(state["seed"]["state"])

    def _warn_of_lost(self, held: Mapping[str, Any]) -> None:
        own = {name: tuple(variable.shape) for name, variable in self._held().items()}
        lost = [name for name, value in held.items() if own.get(name) != np.shape(value)]
        if lost:
            _log.warning(
                "the checkpoint holds variables that the task has not, or in another shape, and "
                "that start again: %s. Make them in build_model or on_setup.",
                ", ".join(lost),
            )

    def load_fitting(self, state: State) -> list[tuple[str, str]]:
        """Take over the weights of models whose name and shape are the same, and nothing else.

        Returns:
            What became of each: (variable, `loaded` or why not), those of the checkpoint that
            found no place at the end.

        Raises:
            UserError: None of them fits.
        """
        report: list[tuple[str, str]] = []
        weights = {**state, **state.get("finalized", {})}["models"]
        for name, model in models_of(self.task.model).items():
            report += load_fitting(model.variables, weights.get(name, {}), name)
        if not any(outcome == LOADED for _, outcome in report):
            raise UserError(
                "no weight of the checkpoint fits the model\n" + table(_FITTING, report),
                where="weights_only=true",
                fix="Give the layers the names that they had, or another checkpoint=.",
            )
        layers = saved_by_keras({"model": models_of(self.task.model)})
        load_fitting_layers(layers, state.get("layers", {}))
        self._diversify()
        return report

    def _diversify(self) -> None:
        seeds = [v for model in models_of(self.task.model).values() for v in model.variables]
        self.replicas.diversify([*seeds, *self._held().values()])

    def check_written(self, internal: Iterable[Any]) -> None:
        """Refuse steps that assign what no checkpoint would hold.

        Args:
            internal: Variables of the trainer's own, which it saves in other ways or starts anew.

        Raises:
            UserError: There is one; its name.
        """
        layer_state(self._layers())  # so that a layer that cannot save is refused here, too
        saved = [*self._known(), *self._held().values(), *internal]
        if global_seed() is not None:
            saved.append(global_seed())
        known = {handle for variable in saved for handle in handles(variable)}
        others = [pair for pair in self.written().items() if pair[0] not in known]
        lost = sorted(name for name in (named(*pair) for pair in others) if name)
        if lost:
            raise UserError(
                f"a step assigns {', '.join(lost)}, which no checkpoint would hold",
                where=type(self.task).__name__,
                fix='Make it in build_model by self.variable("name", 0.0), or keep it as an '
                "attribute of the task, and what tables hold in variables; "
                "enable_checkpointing=false does without checkpoints.",
            )

    def _known(self) -> list[Any]:
        """Return the variables that have a place of their own in a state."""
        models = [
            *models_of(self.task.model).values(),
            *(copy for _, copy, _ in self.task.runtime.followers),
        ]
        optimizers = [] if self.update is None else list(self.update.optimizers)
        known = [v for model in models for v in model.variables]
        known += [v for each in optimizers for v in each.optimizer.variables]
        known += [copy for average in self.averages.values() for copy in average.copies]
        known += self.loss_scale.variables.values() if self.loss_scale else []
        return [*known, *self.task.runtime.variables.values()]

    def _held(self) -> dict[str, Any]:
        """Return the variables of what the task holds beside its models."""
        optimizers = [] if self.update is None else list(self.update.optimizers)
        updated = [v for each in optimizers for v in each.owned]
        written = None if self.config.engine == "eager" else set(self.written())
        return held_variables(self.task, self._known(), updated, written)

    def _layers(self) -> dict[str, Any]:
        """Return what Keras would save of the task in ways of its own, by the way to each."""
        copies = [copy for _, copy, _ in self.task.runtime.followers]
        made = [] if self.update is None else [each.optimizer for each in self.update.optimizers]
        return saved_by_keras({**searched(self.task), "ema_of": copies, "optimizers": made})

    def _host_state(self) -> Any:
        from framework.task import Task  # which imports this

        default, where = Task.state_dict, f"{type(self.task).__name__}.state_dict"
        with user_code(where):
            state = self.task.state_dict()
        try:
            return hold(state) if type(self.task).state_dict is not default else None
        except NotHeld as error:
            raise UserError(
                f"state_dict returned {error}, which no checkpoint can hold",
                where=where,
                fix="Return numbers, text, None, NumPy arrays, and lists, tuples, sets, deques and "
                "dicts of these; of a NumPy generator its bit_generator.state.",
            ) from error

    def _on_all_devices(self, metrics: Any) -> Any:
        """Make the configured Keras metrics again where each device needs variables of its own."""
        if self.replicas.count == 1 or not metrics:
            return metrics
        return {
            name: type(m).from_config(m.get_config()) if isinstance(m, keras.Metric) else m
            for name, m in metrics.items()
        }

    def _check_placed(self, models: Mapping[str, keras.Layer]) -> None:
        """Refuse weights that were made before the devices were known."""
        if self.replicas.count == 1:
            return
        for model in models.values():
            for variable in model.variables:
                if not hasattr(variable.value, "values"):
                    raise UserError(
                        f"{variable.path} is on one device, not on all {self.replicas.count}",
                        where=f"{type(self.task).__name__}.build_model",
                        fix="Make the model in build_model, not before.",
                    )

    def _load_own(self, state: Mapping[str, Any]) -> None:
        for name, variable in self.task.runtime.variables.items():
            if name not in state or np.shape(state[name]) != tuple(variable.shape):
                raise UserError(
                    f"the checkpoint has no variable {name!r} of shape {tuple(variable.shape)}",
                    where=f'{type(self.task).__name__}.variable("{name}")',
                    fix="Use the task that the checkpoint was saved from.",
                )
            variable.assign(state[name])

    def _make_update(self) -> Update:
        task, config = self.task, self.config
        optimizers = self._optimizers()
        if task.runtime.loss_scale is None:
            half = config.precision == "mixed_float16"
            task.runtime.loss_scale = optimizers.loss_scale or (LossScale() if half else None)
        return Update(
            optimizers,
            replicas=self.replicas,
            loss_scale=task.runtime.loss_scale,
            clip_norm=config.clip_norm,
            clip_value=config.clip_value,
        )

    def _optimizers(self) -> Optimizers:
        """Return the task's optimizers: those of its last fit, as `Model.fit` has it."""
        task = self.task
        kept: Optimizers | None = task.runtime.optimizers
        if kept is not None and kept.suit(task.optimizer):
            kept.prepare(self.replicas.own)
            self.made_optimizers = kept.made()
            return kept
        where = f"{type(task).__name__}.configure_optimizers"
        with user_code(where):
            configured = task.configure_optimizers()
        optimizers = Optimizers(
            configured,
            models_of(task.model),
            extra=[v for v in task.runtime.variables.values() if v.trainable],
            exclusive=task.automatic_optimization,
            prepare=self.replicas.own,
            given=task.optimizer,
            where=where,
        )
        warn_of_unused(task, models_of(task.model))
        self.made_optimizers = optimizers.made()
        optimizers.build()
        task.runtime.optimizers, task.runtime.loss_scale = optimizers, None
        return optimizers

    def _data(self, data: Any) -> Data:
        if data is None:
            with user_code(f"{type(self.task).__name__}.build_data"):
                data = self.task.build_data()
        if not isinstance(data, Data):
            what = "no data" if data is None else f"a {type(data).__name__}"
            raise UserError(
                f"{type(self.task).__name__} has {what} where a Data is wanted",
                where=f"{type(self.task).__name__}.build_data",
                fix="Give Trainer.fit(task, Data(train=(x, y))), return a Data from build_data, "
                "or choose a data set on the command line: data=mnist.",
            )
        self.data_info |= {"source": "given", **data.info}
        return data

    def _count_rows(self, stage: str, *sources: Source) -> None:
        if sources and all(isinstance(source, ArraySource) for source in sources):
            self.data_info[f"{stage}_rows"] = sum(source.count for source in sources)  # type: ignore[attr-defined]

    def _build(self, spec: Any, rows_axis: Any, step: str) -> None:
        # Traced in every engine, so that nothing runs.
        unread = Accumulator()
        engine = self.task.runtime.context = StepRunner(
            self.task, train=unread, replicas=self.replicas, building=True
        )

        def run(batch: Any) -> None:
            def read(_: Any) -> tuple[Any, Any, Any]:
                rows = batch_rows(batch, rows_axis)
                return batch, rows, rows

            zero = tf.constant(0, tf.int64)
            if step == "train_step":
                engine.train_step(read, zero, zero, zero, True)
            elif step == "eval_step":
                engine.eval_step(0, unread, read, zero, zero, zero, True)
            else:
                engine.predict_step(0, batch, zero)

        build_by_tracing(run, spec, self.task, step, rows_axis)
