"""What is known of Keras's own callbacks: which are refused, and what some need to work here."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

from framework.callbacks.direction import by_name
from framework.callbacks.monitor import Monitor, why_none
from framework.compat import set_monitor_op
from framework.errors import UserError, closest
from framework.schedules import is_scheduled
from framework.text.plain import without_colours

if TYPE_CHECKING:
    from framework.callback import RunView

_IN = "framework.callbacks"
_REFUSED = {
    # Its on_train_begin would load weights of its own over those of the checkpoint.
    "BackupAndRestore": (
        "a run directory keeps what a run continues from",
        "Leave it out, and give the Trainer a run_dir.",
    ),
    "OrbaxCheckpoint": (
        "a run directory keeps what a run continues from",
        f"Use {_IN}.checkpoint.Checkpoint, and give the Trainer a run_dir.",
    ),
    # Between two of its hooks the averages lie in the model, and would be saved as its weights.
    "SwapEMAWeights": (
        "the averages are not the optimizer's here",
        f"Use {_IN}.ema.EMA, which evaluates and saves both.",
    ),
    # What it wrote past the checkpoint stays when a run goes on, and it wakes for every batch.
    "TensorBoard": (
        "its event files cannot go back to a checkpoint",
        "Use framework.loggers.tensorboard.TensorBoardLogger among loggers=.",
    ),
    # It would draw over the other one, and wake for every batch.
    "ProgbarLogger": (
        "there is a progress bar already",
        "Leave it out; enable_progress_bar turns the other one on and off.",
    ),
}
# Of several workers only the chief writes.
WRITERS = tuple(
    getattr(keras.callbacks, name) for name in ("CSVLogger", "ModelCheckpoint", "RemoteMonitor")
)
_SET_RATES = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)


def refuse_unfit(callback: Any) -> None:
    """Refuse a callback that cannot work, or does what the framework does.

    Raises:
        UserError: It is one of these, a class, or no Keras callback at all.
    """
    if isinstance(callback, type) and issubclass(callback, keras.callbacks.Callback):
        fix = f"Make an object of it: {callback.__name__}(...)."
        raise UserError(f"{callback.__name__} is a class", where=_where(callback), fix=fix)
    if not isinstance(callback, keras.callbacks.Callback):
        fix = "Give an object of a subclass of keras.callbacks.Callback."
        raise UserError(f"{callback!r} is no Keras callback", where=_where(callback), fix=fix)
    for name, (why, fix) in _REFUSED.items():
        kind = getattr(keras.callbacks, name, None)
        if kind is not None and isinstance(callback, kind):
            raise UserError(
                f"Keras's {name} is not for here: {why}", where=_where(callback), fix=fix
            )


def refuse_layer(callback: Any, model: keras.Layer) -> None:
    """Refuse a layer in the place of a model, which Keras's callbacks are written for.

    Raises:
        UserError: It is no model.
    """
    if not isinstance(model, keras.Model):
        raise UserError(
            f"a Keras callback needs a keras.Model, and the task has a {type(model).__name__}",
            where=_where(callback),
            fix="Return keras.Sequential([layer]) from build_model, or write a framework.Callback.",
        )


def refuse_unsaved(callback: Any, model: keras.Model) -> None:
    """Refuse to save a model that Keras cannot, before a file of nothing is left.

    Raises:
        UserError: It has no `get_config`, or one that fails.
    """
    saves = isinstance(callback, keras.callbacks.ModelCheckpoint)
    if not saves or callback.save_weights_only:
        return
    try:
        keras.saving.serialize_keras_object(model)
    except Exception as error:
        name = type(model).__name__
        raise UserError(
            f"Keras cannot save a {name}: {without_colours(error).strip().splitlines()[0]}",
            where=_where(callback),
            fix=f"Give {name} a get_config that returns the arguments of its __init__, or "
            "ModelCheckpoint save_weights_only=True.",
        ) from error


def refuse_fixed_rates(callback: Any, run: RunView) -> None:
    """Refuse to set the learning rate where that is not one number, before training begins.

    Raises:
        UserError: There are several optimizers, or the rate follows a schedule.
    """
    if not isinstance(callback, _SET_RATES):
        return
    name, optimizers = type(callback).__name__, list(run.optimizers.values())
    if len(optimizers) > 1:
        raise UserError(
            f"{name} sets the rate of one optimizer, and there are {len(optimizers)}",
            where=_where(callback),
            fix=f"Use {_IN}.reduce_on_plateau.ReduceOnPlateau, or a schedule.",
        )
    if any(is_scheduled(each) for each in optimizers):
        raise UserError(
            f"{name} sets the learning rate, which follows a schedule",
            where=_where(callback),
            fix="Give the optimizer a number as its learning_rate, or leave the callback out.",
        )


def settle_monitor(callback: Any, run: RunView | None = None) -> None:
    """Settle now what better means for a callback with a `monitor`.

    Keras does it at the first epoch's end, from the metrics of a compiled model, of which there
    are none; and it turns the sign of `min_delta` then, which would be turned again after a
    restart.
    """
    if not hasattr(callback, "_set_monitor_op") or callback.monitor_op is not None:
        return
    if not getattr(callback, "save_best_only", True):
        callback.mode = "min"  # Keras wants one, and then judges by nothing
    elif callback.mode == "auto":
        name = _full_name(callback.monitor, run.metric_names if run else ())
        monitor = Monitor(name, where=_where(callback))
        if run is not None:
            monitor.settle(run)
        elif by_name(name) is None:
            return  # until there is a metric to be asked
        callback.mode = monitor.mode
    set_monitor_op(callback)


def _full_name(monitor: str, names: Iterable[str]) -> str:
    """Return the full name of a metric that Keras calls `val_<set>_accuracy` or the like."""
    known = (name for name in names if monitor in keras_logs({name: 0.0}))
    stage, rest = ("val", monitor[4:]) if monitor.startswith("val_") else ("train", monitor)
    return next(known, f"{stage}/{rest}")


def refuse_unlogged(callback: Any, run: RunView) -> None:
    """Refuse to watch a metric that nothing logs, of which Keras would only warn at every epoch.

    Raises:
        UserError: No compiled step logs it, or it is of a validation that will not be.
    """
    watches = hasattr(callback, "_set_monitor_op") and getattr(callback, "save_best_only", True)
    names = run.metric_names
    if not watches or not names:
        return
    monitor, where = str(callback.monitor), f"{_where(callback)}, monitor"
    if monitor.startswith("val_") and not run.has_validation:
        why, fix = why_none(run)
        raise UserError(
            f"{monitor} is monitored, but {why}", where=where, fix=f"{fix}, or monitor loss."
        )
    known = {name for name in keras_logs(dict.fromkeys(names, 0.0)) if not name.endswith("_epoch")}
    known.add("learning_rate")
    if monitor not in known:
        raise UserError(
            f"nothing logs the monitored metric {monitor!r}",
            where=where,
            fix=closest(monitor, known),
        )


def keras_logs(metrics: Mapping[str, float], *, bare: bool = False) -> dict[str, Any]:
    """Return metrics by Keras's names.

    Example:
        >>> keras_logs({"train/loss": 1.0, "val/loss": 2.0, "val/hard/loss": 3.0})
        {'loss': 1.0, 'val_loss': 2.0, 'val_hard_loss': 3.0}

    Args:
        metrics: By full name.
        bare: Leave out `val_` as well, as in the logs of a validation itself.
    """
    logs: dict[str, Any] = {}
    for name, value in metrics.items():
        stage, _, rest = name.partition("/")
        prefix = "val_" if stage == "val" and not bare else ""
        logs[prefix + rest.replace("/", "_")] = value
    return logs


@contextmanager
def going_on(callback: Any, epoch: int | None) -> Iterator[None]:
    """Have a CSVLogger go on with its file in the body, rather than empty it.

    Args:
        callback: It or any other, to which nothing is done.
        epoch: The one that the run goes on from. None: it begins.
    """
    logger = keras.callbacks.CSVLogger
    if epoch is None or not isinstance(callback, logger) or callback.append:
        yield
        return
    path = Path(callback.filename)
    if path.is_file():
        with open(path, newline="") as file:
            rows = list(csv.reader(file, delimiter=callback.sep))
        # A run that was killed may have written of epochs that are not in its last checkpoint.
        kept = [row for row in rows if row and not (row[0].isdigit() and int(row[0]) >= epoch)]
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=callback.sep).writerows(kept)
        path.write_text(text.getvalue(), newline="")
    callback.append = True
    try:
        yield
    finally:
        callback.append = False


def _where(callback: Any) -> str:
    name = getattr(callback, "__name__", type(callback).__name__)
    return f"callbacks, {name}"
