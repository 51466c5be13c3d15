"""Start `fit` where a checkpoint left it, and finish it, however it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from framework.core.models_by_name import models_of
from framework.core.state import LOADED, check_same_data
from framework.core.statuses import ENDED
from framework.datasets.preprocessing import check_preprocessing, save_preprocessing
from framework.run.evaluated_weights import averaged, noting_replaced
from framework.run.fitting import Fitting
from framework.run.resume import (
    ResumePoint,
    check_no_overwrite,
    check_together,
    find_resume_point,
    understood,
)
from framework.run.run import Run
from framework.run.stage_context import Stage
from framework.sources.inputs import FILE as INPUTS
from framework.sources.inputs import Inputs
from framework.step.optimizers import finalize, finalizes
from framework.text.tables import table

_log = logging.getLogger("framework")


def resume_point(
    run: Run, stage: Stage, fitting: Fitting, which: str | None, *, weights_only: bool
) -> ResumePoint | None:
    """Read the checkpoint that a `fit` starts from, if there is one; see `Trainer.fit`."""
    stage.lock(started=False)
    fitting.started_from = which and str(which)
    if run.run_dir is not None and not run.keeps:
        check_no_overwrite(run.config, run.run_dir)
    if run.run_dir is not None:
        check_preprocessing(run.run_dir, run.task.runtime.preprocessing)
    run.checkpoints.recover()
    return find_resume_point(
        run.config,
        run.checkpoints,
        which,
        identity=fitting.identity(),
        own=run.keeps,
        fits=stage.components.check_fits,
        weights_only=weights_only,
    )


def resume_from(start: ResumePoint | None, run: Run, fitting: Fitting) -> None:
    """Bring a compiled `fit` to the point at which a checkpoint was saved, if there is one."""
    if start is None:
        return
    with understood(start.path):
        if start.weights_only:
            _load_weights(fitting, start)
            return
        progress, then = start.state["progress"], start.state.get("data", {})
        now = fitting.data_state(int(progress["epoch"]))
        check_same_data(then, now, batch=int(progress["batch"]), own=start.mine)
        fitting.load_state(start.state)
    _log.info("resuming from %s at step %s", start.path, f"{int(progress['step']):,}")
    if not start.mine:
        run.checkpoints.take_back(run.progress.step)


@contextmanager
def started(run: Run, stage: Stage, fitting: Fitting) -> Iterator[None]:
    """Train in the body, and call the hooks at the start and end of `fit`, however it ends."""
    step = run.progress.step
    check_together(stage.replicas, step, run.checkpoints, keeps=run.keeps)
    fitting.start_clock()
    run.already_complete = step > 0 and fitting.wakeup.is_over()
    stage.lock()
    run.metric_log.open(run.run_dir, _last_logged(run))
    if run.run_dir is not None:
        save_preprocessing(run.run_dir, run.task.runtime.preprocessing)
        run.metric_log.logger.log_config(*run.recorded)
        _describe_inputs(run.run_dir / INPUTS, fitting)
    with stage.signals.deferred():
        try:
            stage.call("on_fit_start")
            _say_if_complete(run, fitting, step)
            if stage.replicas.workers > 1 and not step:
                run.save_checkpoint()  # so that one exists, however early a worker is lost
            if run.config.sanity_val_steps and fitting.has_validation and not step:
                fitting.evaluator.run(most=run.config.sanity_val_steps)
            yield
        except BaseException as error:
            run.stop_condition.fail(error)
            stage.call("on_exception", error)
            raise
        finally:
            _end(run, stage, fitting)


def _describe_inputs(path: Path, fitting: Fitting) -> None:
    """Write what the model takes, once; without it, its data is needed to load it."""
    if path.exists():
        return
    try:
        Inputs.of(fitting.source, fitting.class_names).write(path)
    except OSError:
        raise
    except Exception as reason:  # what runs is the user's own `Data.map`, on open shapes
        _log.debug("no %s: %s", path.name, reason)


def _load_weights(fitting: Fitting, start: ResumePoint) -> None:
    report = fitting.load_fitting(start.state)
    loaded = [name for name, outcome in report if outcome == LOADED]
    others = [row for row in report if row[1] != LOADED]
    total = len(report) - sum(outcome == "only in the checkpoint" for _, outcome in report)
    _log.info("loaded %d of %d variables from %s", len(loaded), total, start.path)
    if others:
        _log.warning("not loaded:\n%s", table(("variable", "why"), others, most=30))


def _end(run: Run, stage: Stage, fitting: Fitting) -> None:
    fitting.wakeup.note_closing()
    weights = {"weights": "last", "step": run.progress.step, "run": run.place}
    run.task.runtime.weights = weights
    _finalize_weights(run, stage, fitting)
    if fitting.has_validation:
        judged = {"weights": "last", "step": max(fitting.epochs.validated, 0)}
        run.weights["val"] = averaged(judged, stage.components.averages_in_place)
    with noting_replaced(run.task):
        stage.call("on_fit_end")
    if run.stop_condition.broken:
        run.saver.wait()
    else:
        with run.profile("saving"):
            run.saver.finish()
    if run.run_dir is not None and run.status in ENDED:
        with run.profile("logging"), stage.components.averaged():
            for name, model in models_of(run.task.model).items():
                run.metric_log.logger.log_model(name, model, run.progress.step)
    if run.config.profiler == "simple":
        _log.info("where the time went\n%s", run.profile.table())
    if run.status != "failed" and not run.already_complete:
        _log.info("%s: %s", run.status, run.stop_reason)  # an error is reported separately


def _finalize_weights(run: Run, stage: Stage, fitting: Fitting) -> None:
    """Let optimizers finalize the weights; a resumed run starts from the weights of training."""
    update = stage.components.update
    if update is None or run.status not in ENDED:
        return
    if finalizes(update.optimizers):
        run.hold_state()
        finalize(update.optimizers)
        fitting.wakeup.note_finalized(stage.components.weights)
        runtime = run.task.runtime
        runtime.weights = averaged(runtime.weights or {}, ["the optimizer"])


def _last_logged(run: Run) -> int | None:
    """Return the last step for which logged rows stay when the run resumes. None: all steps."""
    if run.already_complete:
        return None
    return run.progress.step - (run.progress.pending in ("log", "end"))


def _say_if_complete(run: Run, fitting: Fitting, step: int) -> None:
    run.already_complete = step > 0 and fitting.wakeup.is_over()
    if run.already_complete:
        run.metrics.update(fitting.wakeup.closing)
        _log.info("already complete: %s (step %s)", run.stop_reason, f"{step:,}")
