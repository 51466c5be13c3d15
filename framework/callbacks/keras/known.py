"""Special cases of Keras's callbacks: which are rejected, and what some of them need."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras

from framework.callback import RunView
from framework.callbacks.monitor import Monitor, why_none
from framework.compat import set_monitor_op
from framework.core.direction import by_name
from framework.errors import UserError, closest
from framework.schedules import is_scheduled
from framework.text.escape import without_colours

_IN = "framework.callbacks"
_REFUSED = {
    # Its on_train_begin would overwrite the checkpoint's weights with its own backup.
    "BackupAndRestore": (
        "a run resumes from its run directory",
        "Leave it out, and give the Trainer a run_dir.",
    ),
    "OrbaxCheckpoint": (
        "a run resumes from its run directory",
        f"Use {_IN}.checkpoint.Checkpoint, and give the Trainer a run_dir.",
    ),
    # Between its hooks the model has the averages, which would be saved as the weights.
    "SwapEMAWeights": (
        "the optimizer does not keep the averages here",
        f"Use {_IN}.ema.EMA, which evaluates and saves both.",
    ),
    # A resumed run would keep its events after the checkpoint, and it wakes for every batch.
    "TensorBoard": (
        "its event files cannot be rewound to a checkpoint",
        "Use framework.loggers.tensorboard.TensorBoardLogger among loggers=.",
    ),
    # It would draw over the framework's progress bar, and wake for every batch.
    "ProgbarLogger": (
        "the Trainer already has a progress bar",
        "Leave it out; enable_progress_bar turns the Trainer's on and off.",
    ),
}
# With several workers, only the chief calls these.
WRITERS = tuple(
    getattr(keras.callbacks, name) for name in ("CSVLogger", "ModelCheckpoint", "RemoteMonitor")
)
_SET_RATES = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)


def refuse_unfit(callback: Any) -> None:
    """Reject a callback that is none, cannot work here, or duplicates the framework."""
    if isinstance(callback, type) and issubclass(callback, keras.callbacks.Callback):
        fix = f"Give an instance: {callback.__name__}(...)."
        raise UserError(f"{callback.__name__} is a class", where=_where(callback), fix=fix)
    if not isinstance(callback, keras.callbacks.Callback):
        fix = "Give an instance of a subclass of keras.callbacks.Callback."
        raise UserError(f"{callback!r} is not a Keras callback", where=_where(callback), fix=fix)
    for name, (why, fix) in _REFUSED.items():
        kind = getattr(keras.callbacks, name, None)
        if kind is not None and isinstance(callback, kind):
            raise UserError(
                f"Keras's {name} is not supported: {why}", where=_where(callback), fix=fix
            )


def refuse_layer(callback: Any, model: keras.Layer) -> None:
    """Reject a layer in place of a model, since Keras's callbacks need a model."""
    if not isinstance(model, keras.Model):
        raise UserError(
            f"a Keras callback needs a keras.Model, and the task has a {type(model).__name__}",
            where=_where(callback),
            fix="Return keras.Sequential([layer]) from build_model, or write a framework.Callback.",
        )


def refuse_unsaved(callback: Any, model: keras.Model) -> None:
    """Reject a model that Keras cannot save, before an empty file is written."""
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
    """Reject a callback that sets the learning rate, unless there is one constant rate."""
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
    """Decide now whether higher or lower is better for a callback with a `monitor`.

    Keras decides at the end of the first epoch, from the metrics of a compiled model, but the
    model is not compiled here. Keras also flips the sign of `min_delta` then; a resumed run would
    flip it again.
    """
    if not hasattr(callback, "_set_monitor_op") or callback.monitor_op is not None:
        return
    if not getattr(callback, "save_best_only", True):
        callback.mode = "min"  # Keras requires a mode here, but does not use it
    elif callback.mode == "auto":
        name = _full_name(callback.monitor, run.metric_names if run else ())
        monitor = Monitor(name, where=_where(callback))
        if run is not None:
            monitor.settle(run)
        elif by_name(name) is None:
            return  # decided later, when the metric exists
        callback.mode = monitor.mode
    set_monitor_op(callback)


def _full_name(monitor: str, names: Iterable[str]) -> str:
    """Return the full name of a metric from its Keras name, such as `val_<set>_accuracy`."""
    known = (name for name in names if monitor in keras_logs({name: 0.0}))
    stage, rest = ("val", monitor[4:]) if monitor.startswith("val_") else ("train", monitor)
    return next(known, f"{stage}/{rest}")


def refuse_unlogged(callback: Any, run: RunView) -> None:
    """Reject a monitored metric that nothing logs; Keras would only warn at every epoch."""
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
    """Return metrics by Keras's names; `bare` omits `val_`, as in the logs of a validation itself.

    Example:
        >>> keras_logs({"train/loss": 1.0, "val/loss": 2.0, "val/hard/loss": 3.0})
        {'loss': 1.0, 'val_loss': 2.0, 'val_hard_loss': 3.0}
    """
    logs: dict[str, Any] = {}
    for name, value in metrics.items():
        stage, _, rest = name.partition("/")
        prefix = "val_" if stage == "val" and not bare else ""
        logs[prefix + rest.replace("/", "_")] = value
    return logs


@contextmanager
def appending(callback: Any, epoch: int | None) -> Iterator[None]:
    """Make a CSVLogger append in the body, without rows from `epoch` on; None: a new run."""
    logger = keras.callbacks.CSVLogger
    if epoch is None or not isinstance(callback, logger) or callback.append:
        yield
        return
    path = Path(callback.filename)
    if path.is_file():
        with open(path, newline="") as file:
            rows = list(csv.reader(file, delimiter=callback.sep))
        # A killed run may have written rows of epochs after its last checkpoint.
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
