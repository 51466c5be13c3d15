"""Validating, testing and predicting outside of training."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from framework.core.user_code import user_code
from framework.loop.evaluation import Evaluator, predict
from framework.run.judged_weights import averaged, in_words, of_checkpoint, told
from framework.run.resume import understood
from framework.run.run import Run
from framework.run.stage import Session

_log = logging.getLogger("framework")


def evaluated(
    run: Run, session: Session, name: str, data: Any, checkpoint: str | None
) -> dict[str, float]:
    """Judge a task on its validation or test data.

    Args:
        run: Whose stage it is.
        session: The stage at work.
        name: What metric names begin with: `val` or `test`.
        data: See `Trainer.validate`.
        checkpoint: See `Trainer.validate`.

    Returns:
        Metrics by full name.
    """
    limits = {"val": run.config.limit_val_batches, "test": run.config.limit_test_batches}
    sources = session.setup.open_eval(data, name, limits[name])
    engine = session.setup.engine_for(sources, "eval_step", session.train)
    session.call("on_setup")
    _load_weights(run, session, checkpoint, name)
    evaluator = Evaluator(
        engine,
        sources,
        name,
        variant=session.eval_variant,
        pulse=session.pulse,
        undrawn=session.setup.undrawn,
    )
    evaluator.trace()
    hook = "validation" if name == "val" else name
    session.call(f"on_{hook}_start")
    with session.setup.averaged(), session.signals.deferred():
        metrics = evaluator.run(run.progress.step)
    if session.pulse.interrupted():
        run.ending.end("interrupted", f"a signal during {run.stage}")
        return metrics
    session.lock()
    run.metric_log.open(run.run_dir, None)
    if name == "test":
        run.metric_log.forget("test")
    run.log_metrics(metrics)
    session.call(f"on_{hook}_end", metrics)
    run.ending.end("completed", f"{run.stage} finished")
    return metrics


def predicted(run: Run, session: Session, data: Any, checkpoint: str | None) -> Any:
    """Return what the model says of every example; see `Trainer.predict`."""
    sources = session.setup.open_eval(data, "predict", 1.0)
    engine = session.setup.engine_for(sources, "predict_step", session.train)
    session.call("on_setup")
    _load_weights(run, session, checkpoint, "predict")
    session.call("on_predict_start")
    where = f"{type(run.task).__name__}.predict_step"
    outputs = {}
    for number, (name, source) in enumerate(sources.items()):
        with (
            user_code(where, source.spec),
            session.setup.averaged(),
            session.setup.undrawn(None),
            session.signals.deferred(),
        ):
            outputs[name] = predict(
                partial(engine.predict_step, number),
                source,
                eager=session.eval_variant == "eager",
                interrupted=session.pulse.interrupted,
            )
    session.call("on_predict_end")
    run.ending.end("completed", "predict finished")
    return outputs[""] if list(outputs) == [""] else outputs


def _load_weights(run: Run, session: Session, checkpoint: str | None, name: str) -> None:
    """Have the task's model hold the weights to judge, and say whose they are.

    Args:
        run: Whose stage it is.
        session: The stage at work.
        checkpoint: As it was asked for. None: those that this process has given to the task,
            else the run's best, else its last.
        name: The stage in metric names.
    """
    runtime = run.task.runtime
    if checkpoint is None and runtime.weights is None and run.keeps and run.store.steps():
        checkpoint = str(run.store.favourite())
    if checkpoint is not None:
        path = run.store.find(checkpoint)
        state = run.store.load(path, session.setup.check_fits)
        with understood(path):
            finalized = dict(state.get("finalized", {}))
            session.setup.load_weights({**state, **finalized})
            run.progress.load_state(state["progress"])
        by = ["the optimizer"] if finalized else []
        runtime.weights = averaged(of_checkpoint(path), by)
    run.weights[name] = told(runtime.weights, run.place, session.setup.averages_in_place)
    level = logging.INFO if runtime.weights else logging.WARNING
    _log.log(level, "%s: %s", run.stage, in_words(run.weights[name]))
