"""Validate, test and predict outside of training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from framework.core.user_code import user_code
from framework.datasets.preprocessing import check_preprocessing
from framework.loop.evaluation import predictions
from framework.run.evaluated_weights import averaged, described, in_words, of_checkpoint
from framework.run.resume import understood
from framework.run.run import Run
from framework.run.stage_context import Stage
from framework.sources.source import Source

_log = logging.getLogger("framework")


def evaluated(
    run: Run, stage: Stage, name: str, data: Any, checkpoint: str | None
) -> dict[str, float]:
    """Evaluate a task on its data called `val` or `test`; see `Trainer.validate`."""
    limits = {"val": run.config.limit_val_batches, "test": run.config.limit_test_batches}
    sources = _opened(run, stage, data, name, limits[name])
    engine = stage.components.engine_for(sources, "eval_step", stage.train)
    stage.call("on_setup")
    _load_weights(run, stage, checkpoint, name)
    evaluator = stage.make_evaluator(engine, sources, name)
    evaluator.trace()
    hook = "validation" if name == "val" else name
    stage.call(f"on_{hook}_start")
    with stage.components.averaged(), stage.signals.deferred():
        metrics = evaluator.run(run.progress.step)
    if stage.host_sync.interrupted():
        run.stop_condition.end("interrupted", f"a signal during {run.stage}")
        return metrics
    stage.lock()
    run.metric_log.open(run.run_dir, None)
    if name == "test":
        run.metric_log.logger.forget("test")
    run.log_metrics(metrics)
    stage.call(f"on_{hook}_end", metrics)
    run.stop_condition.end("completed", f"{run.stage} finished")
    return metrics


def predicted(
    run: Run,
    stage: Stage,
    data: Any,
    checkpoint: str | None,
    split: str = "predict",
    each: Callable[[str, Any], None] | None = None,
) -> Any:
    """Return the model's predictions for every example; see `Trainer.predict`."""
    sources = _opened(run, stage, data, {"train": "overfit"}.get(split, split), 1.0)
    engine = stage.components.engine_for(sources, "predict_step", stage.train)
    stage.call("on_setup")
    _load_weights(run, stage, checkpoint, "predict")
    stage.call("on_predict_start")
    where = f"{type(run.task).__name__}.predict_step"
    outputs: dict[str, list[Any]] = {}
    for number, (name, source) in enumerate(sources.items()):
        keep = outputs.setdefault(name, []).append
        with (
            user_code(where, source.spec),
            stage.components.averaged(),
            stage.components.undrawn(None),
            stage.signals.deferred(),
        ):
            for part in predictions(
                partial(engine.predict_step, number),
                source,
                eager=stage.eval_variant == "eager",
                interrupted=stage.host_sync.interrupted,
            ):
                keep(part) if each is None else each(name, part)
    stage.call("on_predict_end")
    run.stop_condition.end("completed", "predict finished")
    if each is not None:
        return None
    whole = {
        name: tf.nest.map_structure(lambda *leaves: np.concatenate(leaves), *parts)
        for name, parts in outputs.items()
    }
    return whole[""] if list(whole) == [""] else whole


def _opened(run: Run, stage: Stage, data: Any, name: str, limit: int | float) -> dict[str, Source]:
    """Open the data of a stage, which must be prepared as those that the run was trained on."""
    sources = stage.components.open_eval(data, name, limit)
    if run.place is not None:
        check_preprocessing(Path(run.place), run.task.runtime.preprocessing)
    return sources


def _load_weights(run: Run, stage: Stage, checkpoint: str | None, name: str) -> None:
    """Load the weights to evaluate into the task's model, and log which ones they are."""
    runtime, store = run.task.runtime, run.checkpoints
    if checkpoint is None and runtime.weights is None and run.keeps and store.steps():
        checkpoint = str(store.favourite())
    if checkpoint is not None:
        path = store.find(checkpoint)
        state = store.load(path, stage.components.check_fits)
        with understood(path):
            finalized = dict(state.get("finalized", {}))
            stage.components.load_weights({**state, **finalized})
            run.progress.load_state(state["progress"])
        by = ["the optimizer"] if finalized else []
        runtime.weights = averaged(of_checkpoint(path), by)
    run.weights[name] = described(runtime.weights, run.place, stage.components.averages_in_place)
    level = logging.INFO if runtime.weights else logging.WARNING
    _log.log(level, "%s: %s", run.stage, in_words(run.weights[name]))
