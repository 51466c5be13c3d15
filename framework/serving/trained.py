"""`Trained`: a task with the weights of a checkpoint, ready to predict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import tensorflow as tf

from framework.checkpoint.store import CheckpointStore
from framework.core.state import State, load_variables
from framework.core.user_code import user_code
from framework.datasets.preprocessing import saved_preprocessing
from framework.devices.select import open_replicas
from framework.run.assembly import Components
from framework.run.evaluated_weights import averaged, of_checkpoint
from framework.run.process_settings import isolated
from framework.run.resume import understood
from framework.run.run import Run
from framework.serving.answers import Answers
from framework.sources.inputs import FILE, Inputs
from framework.sources.open import open_eval
from framework.step.averaging import weights_and_statistics
from framework.step.runner import StepRunner
from framework.task import Task


@dataclass(frozen=True)
class Trained:
    """A task with the weights of a run; what `framework.load` returns.

    Example:
        >>> trained = framework.load("runs/a")
        >>> trained.predict(images)           # uint8, as the data set has them
        >>> trained.model.summary()

    Attributes:
        task: The task, with its model built and the weights in.
        inputs: What it takes: the shapes of batches, `Data.map`, the names of classes.
        weights: Which weights these are: `weights` (`best`, `last` or `step`), `step`, `run`, and
            the metric by which they are the best.
        runner: Runs the task's steps.
    """

    task: Task
    inputs: Inputs
    weights: Mapping[str, Any]
    runner: StepRunner

    @property
    def model(self) -> Any:
        """The trained `keras.Model`, or the dict of them that `build_model` returns."""
        return self.task.model

    @property
    def class_names(self) -> Sequence[str]:
        """The names of the classes, by label; empty if the data have none."""
        return self.inputs.class_names

    def predict(self, inputs: Any) -> Any:
        """Return the predictions for raw inputs, as `mode=predict` gives them.

        Example:
            >>> load("runs/a").predict(np.zeros((2, 28, 28), np.uint8)).shape
            (2, 10)
            >>> load("runs/b").predict({"age": [41], "city": ["Oslo"]})  # of data=table

        Args:
            inputs: An array with one row for each example, as the data set has it, before
                `Data.map`; without labels. Several inputs: a tuple, or a dict by name. For a run
                with `data=table`, columns by name; with `data=image_folder`, files of images.

        Returns:
            What `predict_step` returns, as NumPy arrays.

        Raises:
            UserError: The inputs have another shape or type, or `predict_step` fails.
        """
        prepare = self.task.runtime.preprocessing
        ready = inputs if prepare is None else prepare(inputs)
        return self.answers.packed(self.answers(self.answers.named(ready)))

    @cached_property
    def answers(self) -> Answers:
        """The compiled function behind `predict`."""
        where = f"{type(self.task).__name__}.predict_step"

        def step(batch: Any) -> Any:
            with user_code(where, self.inputs.batch):
                return self.runner.predict_step(0, batch, tf.constant(0, tf.int64))

        return Answers.of(step, self.inputs, where)


def restore(
    task: Task,
    checkpoint: Path,
    *,
    data: Any = None,
    precision: str | None = None,
    average: bool = False,
) -> Trained:
    """Build a task's model and load a checkpoint into it. No callback runs; nothing is written.

    Args:
        task: The task, as it was trained, without a model.
        checkpoint: The directory of a checkpoint, in that of its run.
        data: A `Data`, or a function that returns one, for what `inputs.json` of the run lacks: the
            shapes of batches, if a run of an earlier version has no such file, or a `Data.map` that
            is more than arithmetic. Default: the task's own data, for the former.
        precision: Default: that of the run.
        average: Use the average of the weights that evaluations use, if the run keeps one.

    Raises:
        UserError: The checkpoint does not fit the task.
    """
    store = CheckpointStore(checkpoint.parent)
    state = store.load(checkpoint)
    known = state.get("config", {})
    options = {
        name: known[name] for name in ("precision", "seed", "deterministic") if name in known
    }
    run = Run((), (), None, {}, options | ({"precision": precision} if precision else {}))
    run.stage, task.trainer = "predict", run
    inputs = _inputs(task, checkpoint.parents[1] / FILE, data)
    task.runtime.preprocessing = saved_preprocessing(checkpoint.parents[1])
    components = Components(task, run.config, open_replicas(run.config), {})
    finalized = dict(state.get("finalized", {}))
    with isolated(run.config.precision, deterministic=run.config.deterministic):
        runner = components.engine_of(inputs.batch)
        with user_code(f"{type(task).__name__}.on_setup"):
            task.on_setup()
        with understood(checkpoint):
            components.check_fits(state)
            components.load_weights({**state, **finalized})
            run.progress.load_state(state["progress"])
            names = _put_average(task, state) if average else []
    about = averaged(of_checkpoint(checkpoint), [*(["the optimizer"] if finalized else []), *names])
    task.runtime.weights = about
    return Trained(task, inputs, about, runner)


def _inputs(task: Task, path: Path, data: Any) -> Inputs:
    known = Inputs.read(path)
    if known is not None and (known.map is not None or data is None):
        return known
    if data is None:
        data = task.build_data
    given = data() if callable(data) else data
    source = next(iter(open_eval(given, "predict", seed=0).values()))
    return Inputs.of(source, given.class_names)


def _put_average(task: Task, state: State) -> list[str]:
    """Replace the weights by the average that evaluations use, if any; return its name."""
    used = [name for name, saved in state["averages"].items() if saved.get("used", False)]
    weights, statistics = weights_and_statistics(task)
    for name in used:
        copies = state["averages"][name]["copies"]
        load_variables([*weights, *statistics][: len(copies)], copies, f"average {name!r}")
    return used
