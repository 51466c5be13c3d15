"""Bringing a task, its data and its options together, before anything runs or is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from framework.checkpoint.state import State, load_variables, variables_state
from framework.config import TrainerConfig
from framework.data.arrays import ArraySource
from framework.data.open import open_eval, open_train
from framework.data.source import Data, Source, batch_rows
from framework.engine.accumulator import Accumulator
from framework.engine.build import build_by_tracing, build_model, is_built, user_code
from framework.engine.precision import LossScale
from framework.engine.step import Engine, models_of
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.task import Task


class Setup:
    """A run's model, optimizer, loss scale and data.

    Args:
        task: Whose they are; a model that it has already is kept.
        config: The trainer's options.
        device: TensorFlow's name of the device.
        data_info: What `result.json` says of the data; this adds to it.

    Attributes:
        optimizer: The built optimizer, or None outside `fit`.
        loss_scale: The loss scale of `mixed_float16`, else None.
        device: As given.
    """

    def __init__(
        self, task: Task, config: TrainerConfig, device: str, data_info: dict[str, Any]
    ) -> None:
        self.task, self.config, self.device = task, config, device
        self.optimizer: keras.Optimizer | None = None
        self.loss_scale: LossScale | None = None
        self.data_info = data_info

    def open_fit(self, data: Any) -> tuple[Source, dict[str, Source]]:
        """Open the training set and the validation sets."""
        config, data = self.config, self._data(data)
        held: dict[int, tf.Tensor] = {}
        train = open_train(
            data,
            seed=config.seed,
            limit=config.limit_train_batches,
            overfit=config.overfit_batches,
            held=held,
        )
        self._count_rows("train", train)
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

    def engine_for(self, sources: Mapping[str, Source], step: str) -> Engine:
        """Build the model, and for `train_step` the optimizer, for batches like the sources'."""
        task = self.task
        if task.model is None:
            keras.utils.set_random_seed(self.config.seed)
            task.model = build_model(task)
        if step == "train_step":
            with user_code(f"{type(task).__name__}.configure_optimizers"):
                self.optimizer = task.configure_optimizers()
            self._check_optimizer(self.optimizer)
        if not is_built(task.model):
            with user_code("Data.map or Data.augment"):
                spec = next(iter(sources.values())).spec()
            self._build(spec, step)
        eager = self.config.engine == "eager"
        engine = task._engine = Engine(task, optimizer=self.optimizer, eager=eager)
        if self.optimizer is not None:
            self.optimizer.build(engine.optimizer_variables)
            if self.config.precision == "mixed_float16":
                engine.loss_scale = self.loss_scale = LossScale()
        return engine

    def load_weights(self, state: State) -> None:
        """Take the models' variables from a checkpoint's state."""
        for name, model in models_of(self.task.model).items():
            load_variables(model.variables, state["models"].get(name, {}), f"model {name!r}")

    def state(self) -> State:
        """Return the models', the optimizer's and the loss scale's variables."""
        models = models_of(self.task.model).items()
        return {
            "models": {name: variables_state(model.variables) for name, model in models},
            "optimizer": variables_state(self.optimizer.variables) if self.optimizer else {},
            "loss_scale": self.loss_scale.state() if self.loss_scale else {},
        }

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""
        self.load_weights(state)
        if self.optimizer is not None:
            load_variables(self.optimizer.variables, state["optimizer"], "optimizer")
        if self.loss_scale is not None and state["loss_scale"]:
            self.loss_scale.load_state(state["loss_scale"])

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

    def _build(self, spec: Any, step: str) -> None:
        # Traced in every engine, so that nothing runs; an unbuilt optimizer updates nothing.
        engine = self.task._engine = Engine(self.task, optimizer=self.optimizer)
        unread = Accumulator()

        def run(batch: Any) -> None:
            def read(_: Any) -> tuple[Any, Any]:
                return batch, batch_rows(batch)

            zero = tf.constant(0, tf.int64)
            if step == "train_step":
                engine.train_step(read, zero, zero, zero, True)
            elif step == "eval_step":
                engine.eval_step(unread, read, zero, zero, zero, True)
            else:
                engine.predict_step(batch)

        build_by_tracing(run, spec, self.task, step)

    def _check_optimizer(self, optimizer: Any) -> None:
        if not isinstance(optimizer, keras.Optimizer):
            raise UserError(
                f"configure_optimizers returned a {type(optimizer).__name__}",
                where=f"{type(self.task).__name__}.configure_optimizers",
                fix="Return a Keras optimizer: keras.optimizers.Adam(1e-3).",
            )
