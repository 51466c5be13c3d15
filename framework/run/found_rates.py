"""Learning rates that a range test finds: shown, written, and used by a new run."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from framework.errors import UserError
from framework.loggers.combined import CombinedLogger
from framework.run.lr_range_test import RangeTest, range_test, suggested
from framework.run.rate_curve import RateCurve
from framework.run.run import Run
from framework.schedules import is_scheduled
from framework.task import Task

_log = logging.getLogger("framework")


def find_rate(run: Run, task: Task, data: Any, **options: Any) -> RateCurve:
    """Run a range test, and write its curve to the run directory and its loggers, if any.

    Args:
        run: The run that `fit` would belong to.
        task: The task.
        data: See `Trainer.fit`.
        **options: See `RangeTest`; also `checkpoint` and `weights_only`, as in `Trainer.fit`.
    """
    start = {name: options.pop(name) for name in ("checkpoint", "weights_only") if name in options}
    curve = range_test(run, task, data, RangeTest.of(options), **start)
    _record(run, curve)
    return curve


def rates_of_new_run(
    run: Run, task: Task, data: Any, checkpoint: str | None, *, weights_only: bool
) -> dict[str, RateCurve]:
    """Return the range test of every optimizer if a `fit` with `auto_lr` starts a new run.

    A run that resumes has its rates in the checkpoint.
    """
    wanted = run.config.auto_lr
    resumes = bool(run.checkpoints.steps())
    if not wanted or resumes or (checkpoint and not weights_only):
        return {}
    options = RangeTest.of(wanted)
    found: dict[str, RateCurve] = {}
    names = [options.optimizer]
    while names:
        given = {**vars(options), "optimizer": names.pop(0)}
        curve = range_test(
            run, task, data, RangeTest(**given), checkpoint=checkpoint, weights_only=weights_only
        )
        if not found and options.optimizer is None:
            names = [name for name in curve.optimizers if name != curve.optimizer]
        found[curve.optimizer] = curve
    return found


def use_rates(run: Run, curves: Mapping[str, RateCurve]) -> None:
    """Give the optimizers of a new run their suggested rates.

    Raises:
        UserError: A curve suggests none, or an optimizer follows a schedule.
    """
    assert run.fitting is not None
    for name, curve in curves.items():
        if is_scheduled(run.optimizers[name]):
            raise UserError(
                f"the rate of {name!r} follows a schedule, which auto would replace",
                where="optimizer.learning_rate=auto",
                fix="Choose schedule=none; or run mode=lr_find, and give the schedule its rate.",
            )
        _record(run, curve)
        rate = run.fitting.found_rates[name] = suggested(curve, len(curve.rates))
        run.optimizers[name].learning_rate = rate
        of = f" of {name}" if len(run.optimizers) > 1 else ""
        _log.info("learning rate%s: %g, found in %d steps", of, rate, len(curve.rates))


def _record(run: Run, curve: RateCurve) -> None:
    if run.run_dir is None:
        return
    run.run_dir.mkdir(parents=True, exist_ok=True)
    name = "lr_find" if len(curve.optimizers) == 1 else f"lr_find_{curve.optimizer}"
    path, figure = curve.save(run.run_dir, name), curve.figure()
    logger = CombinedLogger(run.metric_log.logger.loggers)
    try:
        logger.open(run.run_dir, None)
        if figure is not None:
            logger.log_figure(name, figure, 0)
        logger.log_artifact(path)
    finally:
        logger.close()
