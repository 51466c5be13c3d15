"""Combine a task, its data and its options before anything runs or is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import keras
import tensorflow as tf

from framework.config import TrainerConfig
from framework.core.models_by_name import models_of
from framework.core.user_code import user_code
from framework.data import Data
from framework.devices.replicas import Batch, Replicas
from framework.errors import UserError
from framework.run.task_state import TaskState
from framework.sources.arrays import ArraySource
from framework.sources.indexed import IndexedSource
from framework.sources.open import larger_batches, open_batches, open_eval, open_train
from framework.sources.source import Source, batch_rows
from framework.step.averaging import Average
from framework.step.build_model import build_by_tracing, build_model, is_built
from framework.step.generators import generators, set_aside
from framework.step.keras_trainer_duties import warn_of_unused
from framework.step.mean_check import check_mean
from framework.step.metric_sums import Accumulator
from framework.step.optimizers import Optimizers
from framework.step.precision import LossScale
from framework.step.runner import StepRunner
from framework.step.task_variables import global_seed, task_followers
from framework.step.update import Update
from framework.task import Task


class Components(TaskState):
    """The models, optimizers, loss scale and data of a run.

    Attributes:
        class_names: The names of the classes in the data, by label.
    """

    def __init__(
        self, task: Task, config: TrainerConfig, replicas: Replicas, data_info: dict[str, Any]
    ) -> None:
        super().__init__(task, config, replicas)
        self.made_optimizers: dict[str, Any] = {}  # see `Optimizers.made`
        self.data_info = data_info
        self.class_names: Sequence[str] = ()
        self._streams = False  # whether read-ahead threads may draw random numbers

    def open_fit(self, data: Any) -> tuple[dict[int, Source], dict[str, Source]]:
        """Open the validation sets, and the training set per number of batches to accumulate."""
        config, data = self.config, self._data(data)
        if not self.task.automatic_optimization and config.accumulates:
            raise UserError(
                "the trainer cannot accumulate gradients for a task with manual optimization",
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
        first = next(iter(train.values()))
        self._count_rows("train", first)
        self._streams = isinstance(first, IndexedSource) or not isinstance(first, ArraySource)
        stage = "overfit" if config.overfit_batches else "val"
        limit = config.overfit_batches or config.limit_val_batches
        evaluated = open_eval(data, stage, seed=config.seed, limit=limit, held=held)
        self._count_rows("val", *evaluated.values())
        self._note_rows_to_test(data)
        return train, evaluated

    def open_eval(self, data: Any, stage: str, limit: int | float) -> dict[str, Source]:
        """Open the data sets of a stage, which must have some: `val`, `test` or `predict`."""
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
        """Build the models for batches like the first ones, and optimizers if `step` needs them."""
        task, config = self.task, self.config
        source = next(iter(sources.values()))
        self._build_once(source.spec, source.rows_axis, step)
        # A task with manual optimization may also optimize inside an evaluation.
        if step == "train_step" or (step == "eval_step" and not task.automatic_optimization):
            self.update = self._make_update()
            self.update.averages = self.averages
        self._diversify()
        pieces = self.replicas.count > 1 or config.accumulates
        if step == "train_step" and pieces and task.loss_is_mean and not task.needs_eager:
            check_mean(task, source.spec(), source.rows_axis, source.sample)
        return self._runner(train)

    def engine_of(self, spec: Any) -> StepRunner:
        """Build the models for batches with these specs, to predict only."""
        self._build_once(lambda: spec, 0, "eval_step")
        return self._runner(Accumulator())

    def _build_once(self, spec: Callable[[], Any], rows_axis: Any, step: str) -> None:
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
                fix=f"Give precision={task.built_for!r}, or create a new task.",
            )
        # On several devices, it cannot be created while a step is being traced.
        global_seed(everywhere=self.replicas.count > 1)
        if not is_built(task.model):
            with user_code("Data.map or Data.augment"):
                found = spec()
            self._build(found, rows_axis, step)
        self._check_placed(models_of(task.model))
        self.averages = task_followers(task)

    def _runner(self, train: Accumulator) -> StepRunner:
        engine = self.task.runtime.context = StepRunner(
            self.task,
            train=train,
            update=self.update,
            replicas=self.replicas,
            log_norms=self.config.log_grad_norm,
            eager=self.config.engine == "eager",
        )
        return engine

    def add_average(self, name: str, average: Average) -> None:
        """Keep an average of the weights, saved and restored under a name."""
        number = 1
        while (key := name if number == 1 else f"{name}-{number}") in self.averages:
            number += 1
        self.averages[key] = average

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Replace the weights with the averages to evaluate while the body runs."""
        with ExitStack() as stack:
            for name in self.averages_in_place:
                stack.enter_context(self.averages[name].in_place())
            yield

    def undrawn(self, written: Mapping[int, str] | None) -> AbstractContextManager[None]:
        """Return a context in which an evaluation draws its own random numbers.

        `written` is what its compiled steps write; None if that is unknown.
        """
        models = [v for model in models_of(self.task.model).values() for v in model.variables]
        found = [*models, *self._held().values()]
        # If steps run in Python, an evaluation may be the first to draw from the generator.
        shared = global_seed(make=self.config.engine == "eager")
        found += [] if shared is None else [shared]
        known = None if written is None or self.config.engine == "eager" else set(written)
        return set_aside(generators(found, known), self.config.seed, host=not self._streams)

    @property
    def averages_in_place(self) -> list[str]:
        """The names of the averages that `averaged` puts in place of the weights."""
        return [name for name, each in self.averages.items() if each.evaluate and each.ready]

    def precision_values(self) -> dict[str, float]:
        """Return the row's values for the loss scale, if there is one."""
        if (scale := self.loss_scale) is None:
            return {}
        values = {"train/loss_scale": scale.value, "train/skipped_updates": scale.skipped}
        return {name: float(value.numpy()) for name, value in values.items()}

    def _on_all_devices(self, metrics: Any) -> Any:
        """Recreate the configured Keras metrics if each device needs its own variables."""
        if self.replicas.count == 1 or not metrics:
            return metrics
        return {
            name: type(m).from_config(m.get_config()) if isinstance(m, keras.Metric) else m
            for name, m in metrics.items()
        }

    def _check_placed(self, models: Mapping[str, keras.Layer]) -> None:
        """Refuse weights that were created before the devices were known."""
        if self.replicas.count == 1:
            return
        for model in models.values():
            for variable in model.variables:
                if not hasattr(variable.value, "values"):
                    raise UserError(
                        f"{variable.path} is on one device, not on all {self.replicas.count}",
                        where=f"{type(self.task).__name__}.build_model",
                        fix="Create the model in build_model, not before.",
                    )

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
        """Return the task's optimizers: those of its last fit, as in `Model.fit`."""
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
                f"{type(self.task).__name__} has {what} where a Data is expected",
                where=f"{type(self.task).__name__}.build_data",
                fix="Call Trainer.fit(task, Data(train=(x, y))), return a Data from build_data, "
                "or choose a data set on the command line: data=mnist.",
            )
        self.data_info |= {"source": "given", **data.info}
        self.class_names = data.class_names
        self.task.runtime.preprocessing = data.preprocessing
        return data

    def _count_rows(self, stage: str, *sources: Source) -> None:
        if sources and all(isinstance(source, ArraySource) for source in sources):
            self.data_info[f"{stage}_rows"] = sum(source.count for source in sources)  # type: ignore[attr-defined]

    def _note_rows_to_test(self, data: Data) -> None:
        """Note the rows of a test set of arrays, which is opened only when it is used."""
        pair = isinstance(data.test, (tuple, list)) and data.rows_axis == 0
        leaves = tf.nest.flatten(data.test) if pair else []
        shape = tuple(getattr(leaves[0], "shape", ())) if leaves else ()
        if shape:
            self.data_info["test_rows"] = int(shape[0])

    def _build(self, spec: Any, rows_axis: Any, step: str) -> None:
        # Traced in every engine, so that nothing is executed.
        unread = Accumulator()
        engine = self.task.runtime.context = StepRunner(
            self.task, train=unread, replicas=self.replicas, building=True
        )

        def run(batch: Any) -> None:
            zero, rows = tf.constant(0, tf.int64), batch_rows(batch, rows_axis)
            given = Batch(batch, rows, rows, zero)
            if step == "train_step":
                engine.train_step(given, zero)
            elif step == "eval_step":
                engine.eval_step(0, unread, given, zero)
            else:
                engine.predict_step(0, batch, zero)

        build_by_tracing(run, spec, self.task, step, rows_axis)
