"""What a task's steps cost: operations and memory, from traces that run nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf

from framework.callbacks.model_summary import ModelSummary
from framework.callbacks.shapes import Seen, watched
from framework.compat import layers_within
from framework.core.flops import count_flops
from framework.core.models_by_name import models_of
from framework.core.user_code import user_code
from framework.devices.replicas import Batch
from framework.run.run import Run
from framework.sources.source import Source, batch_rows
from framework.step.metric_sums import Accumulator
from framework.step.runner import StepRunner
from framework.task import Task

_ROOM = 256  # values that a step may log


@dataclass(frozen=True)
class Costs:
    """What one batch costs.

    Attributes:
        rows: Examples in the batch.
        forward: Floating-point operations of an evaluation step.
        training: Those of a training step.
        activations: Bytes of the outputs of all layers in an evaluation step.
        weights: Bytes of the models' variables.
        optimizers: Bytes of the optimizers' variables.
        layers: What was seen of each layer, by id.
    """

    rows: int
    forward: int
    training: int
    activations: int
    weights: int
    optimizers: int
    layers: dict[int, Seen]


def summarize(run: Run, task: Task, data: Any = None) -> Costs:
    """Print a task's models and costs, and return the costs. Nothing runs and nothing is written.

    Args:
        run: A run without a run directory.
        task: The task. Its model is built.
        data: See `Trainer.fit`.
    """
    with run.working("summary", task) as stage:
        train, _ = stage.components.open_fit(data)
        source = next(iter(train.values()))
        runner = stage.components.engine_for({"": source}, "train_step", stage.train)
        stage.call("on_setup")
        costs = _costs(runner, source, task, stage.components.update)
        summary = ModelSummary(layers=costs.layers, rows=costs.rows)
        summary.on_fit_start(run)
        summary.print_lines(_lines(costs))
        run.stop_condition.end("completed", "summary finished")
    return costs


def _costs(runner: StepRunner, source: Source, task: Task, update: Any) -> Costs:
    spec, rows = _spec_of_a_batch(source)
    models = list(models_of(task.model).values())
    layers = {id(each): each for model in models for each in layers_within(model)}
    name, unread = type(task).__name__, Accumulator(_ROOM)
    with watched(layers.values()) as seen, user_code(f"{name}.eval_step", lambda: spec):
        forward = _flops_of(partial(runner.eval_step, 0, unread), spec, rows)
    with user_code(f"{name}.train_step", lambda: spec):
        training = _flops_of(runner.train_step, spec, rows)
    leaves = [key for key, each in layers.items() if len(layers_within(each)) == 1]
    activations = sum(seen[key].bytes for key in leaves if key in seen)
    slots = [] if update is None else [v for o in update.optimizers for v in o.optimizer.variables]
    weights = [v for model in models for v in model.variables]
    return Costs(rows, forward, training, activations, _size(weights), _size(slots), seen)


def _flops_of(step: Any, spec: Any, rows: int) -> int:
    def run(values: Any) -> None:
        zero = tf.constant(0, tf.int64)
        step(Batch(values, rows, rows, zero), zero)

    traced = tf.function(run, autograph=False).get_concrete_function(spec)
    return count_flops(traced.graph.get_operations(), traced.graph.outputs)


def _spec_of_a_batch(source: Source) -> tuple[Any, int]:
    """Return the specs of a whole batch and its rows; a dimension that varies counts as 1."""
    size = source.parts(0, source.steps or 1)[0][2]
    spec = tf.nest.map_structure(
        lambda s: tf.TensorSpec([n or 1 for n in s.shape] if s.shape.rank else s.shape, s.dtype),
        source.spec(size),
    )
    rows = size or batch_rows(tf.nest.map_structure(lambda s: tf.zeros(s.shape, s.dtype), spec))
    return spec, int(rows)


def _size(variables: Any) -> int:
    unique = {id(v): v for v in variables}.values()
    return sum(math.prod(v.shape) * int(tf.as_dtype(v.dtype).size) for v in unique)


def _lines(costs: Costs) -> list[str]:
    rows, batch = costs.rows, f"a batch of {costs.rows:,}"
    return [
        f"FLOPs per example: {in_units(costs.forward / rows)} in an evaluation, "
        f"{in_units(costs.training / rows)} in a training step "
        "(products and convolutions; a multiplication and an addition are 2)",
        f"activations: {in_units(costs.activations / rows, 'B')} per example, "
        f"{in_units(costs.activations, 'B')} for {batch}",
        f"memory: {in_units(costs.weights, 'B')} of weights, "
        f"{in_units(costs.optimizers, 'B')} of optimizer state",
    ]


def in_units(count: float, unit: str = "") -> str:
    """Return a count with three digits and a prefix, such as `12.3 M`."""
    power = min(5, int(math.log(count, 1000))) if count >= 1 else 0
    prefix = ("", "k", "M", "G", "T", "P")[power]
    return f"{count / 1000**power:.3g} {prefix}{unit}".rstrip()
