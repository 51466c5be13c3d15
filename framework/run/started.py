"""Beginning `fit` where a checkpoint left it, and ending it, however it ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from framework.run.fitting import Fitting
from framework.run.judged_weights import averaged, noting_replaced
from framework.run.resume import (
    Earlier,
    check_not_written_over,
    check_together,
    find_earlier,
    resume,
)
from framework.run.run import Run
from framework.run.stage import Session
from framework.step.keras_protocol import finalize, finalizes

_log = logging.getLogger("framework")


def resume_point(
    run: Run, session: Session, fitting: Fitting, which: str | None, *, weights_only: bool
) -> Earlier | None:
    """Read the checkpoint that a `fit` is to begin with, if there is one.

    Args:
        run: Whose `fit` it is.
        session: The stage at work.
        fitting: What is to be trained.
        which: See `Trainer.fit`.
        weights_only: See `Trainer.fit`.
    """
    session.lock(begun=False)
    fitting.begun_from = which and str(which)
    if run.run_dir is not None and not run.keeps:
        check_not_written_over(run.config, run.run_dir)
    if run.checkpoints is not None:
        run.checkpoints.recover()
    return find_earlier(
        run.config,
        run.store,
        which,
        identity=fitting.identity(),
        own=run.keeps,
        fits=session.setup.check_fits,
        weights_only=weights_only,
    )


@contextmanager
def started_at(
    run: Run, session: Session, fitting: Fitting, earlier: Earlier | None
) -> Iterator[None]:
    """Train in the body, from a checkpoint on, with the hooks at both ends of `fit`."""
    resume(fitting, earlier)
    if earlier is not None and not (earlier.mine or earlier.weights_only) and run.checkpoints:
        run.checkpoints.take_back(run.progress.step)
    del earlier  # it holds the arrays of a whole checkpoint
    step = run.progress.step
    check_together(session.replicas, step, run.store, keeps=run.keeps)
    fitting.start_clock()
    run.already_complete = step > 0 and fitting.wakeup.is_over()
    session.lock()
    run.metric_log.open(run.run_dir, _last_logged(run))
    with session.signals.deferred():
        try:
            session.call("on_fit_start")
            _say_if_complete(run, fitting, step)
            if session.replicas.workers > 1 and not step:
                run.save_checkpoint()  # so that there is one, however soon a worker is lost
            if run.config.sanity_val_steps and fitting.has_validation and not step:
                fitting.evaluator.run(most=run.config.sanity_val_steps)
            yield
        except BaseException as error:
            run.ending.fail(error)
            session.call("on_exception", error)
            raise
        finally:
            _end(run, session, fitting)


def _end(run: Run, session: Session, fitting: Fitting) -> None:
    fitting.wakeup.note_closing()
    weights = {"weights": "last", "step": run.progress.step, "run": run.place}
    run.task.runtime.weights = weights
    _finalize_weights(run, session, fitting)
    if fitting.has_validation:
        judged = {"weights": "last", "step": max(fitting.epochs.validated, 0)}
        run.weights["val"] = averaged(judged, session.setup.averages_in_place)
    with noting_replaced(run.task):
        session.call("on_fit_end")
    if run.ending.broken:
        run.saver.wait()
    else:
        with run.profile("saving"):
            run.saver.finish()
    if run.config.profiler == "simple":
        _log.info("where the time went\n%s", run.profile.table())
    if run.status != "failed" and not run.already_complete:
        _log.info("%s: %s", run.status, run.stop_reason)  # an error speaks for itself


def _finalize_weights(run: Run, session: Session, fitting: Fitting) -> None:
    """Let optimizers set the weights' final values; a run goes on from those of training."""
    update = session.setup.update
    if update is None or run.status not in ("completed", "stopped"):
        return
    if finalizes(update.optimizers):
        run.hold_state()
        finalize(update.optimizers)
        fitting.wakeup.note_finalized(session.setup.weights)
        runtime = run.task.runtime
        runtime.weights = averaged(runtime.weights or {}, ["the optimizer"])


def _last_logged(run: Run) -> int | None:
    """Return the last step whose rows stay when the run goes on. None: all of them."""
    if run.already_complete:
        return None
    return run.progress.step - (run.progress.pending in ("log", "end"))


def _say_if_complete(run: Run, fitting: Fitting, step: int) -> None:
    run.already_complete = step > 0 and fitting.wakeup.is_over()
    if run.already_complete:
        run.metrics.update(fitting.wakeup.closing)
        _log.info("already complete: %s (step %s)", run.stop_reason, f"{step:,}")
