"""`framework.load` and `framework.export`: the trained task of a run directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.cli.env_references import texts
from framework.cli.evaluated_config import read_config
from framework.cli.run_dir import CONFIG
from framework.cli.trust import check_config, check_defined, is_absent
from framework.cli.unused_choices import PARTS
from framework.core.paths import local_path
from framework.core.quiet_import import quiet_import
from framework.errors import UserError
from framework.task import Task

if TYPE_CHECKING:
    from framework.serving.trained import Trained


def load(
    run_dir: str | Path,
    *,
    checkpoint: str | int = "",
    task: Task | type[Task] | str | None = None,
    average: bool = False,
    data: Any = None,
    precision: str | None = None,
    trust: Sequence[str] = (),
) -> Trained:
    """Return the trained task of a run: its model built, and the weights in.

    It needs neither the training data nor the machine that the run was made on. Nothing of the run
    is run, neither callbacks nor loggers, and nothing is written.

    Example:
        >>> trained = framework.load("runs/a")
        >>> trained.predict(images)                       # raw: uint8, as the data set has them
        >>> trained.model                                 # a keras.Model
        >>> framework.load("runs/a", checkpoint="last")
        >>> framework.load("runs/a", task="new_place.Digits")    # the class was moved
        >>> framework.load("runs/b", task=Digits(units=64))      # a run of Trainer(run_dir=...)

    Args:
        run_dir: The directory of the run, wherever it is now.
        checkpoint: `best`, `last` or a step. Default: the best, else the last.
        task: The task itself, if the run was started from Python; or its class or that one's
            dotted name, if it is elsewhere than the run's `config.yaml` says.
        average: Use the average of the weights that evaluations use, of `ema` or `swa`, if the run
            keeps one. Default: the weights of training.
        data: A `Data`, or a function that returns one, if the run's directory does not say what
            the model takes (docs/export.md).
        precision: Such as `float32` for a run in `mixed_bfloat16`. Default: the run's.
        trust: Names in the run's configuration that may be used (docs/trust.md).

    Returns:
        The task with `model`, `predict`, `class_names`, and `weights`, which says what was loaded.

    Raises:
        UserError: There is no run, it has no such checkpoint, or its task cannot be found, or does
            not fit the checkpoint.
    """
    with quiet_import():
        from framework.checkpoint.store import CheckpointStore
        from framework.serving.trained import restore

    path = local_path(run_dir, "run_dir")
    if not path.is_dir():
        fix = "Give the directory of a run: framework.load('runs/a')."
        raise UserError("There is no run", where=str(path), fix=fix)
    store = CheckpointStore(path / "checkpoints")
    if not store.steps():
        raise UserError("The run has no checkpoint", where=str(path), fix="Train it first.")
    found = store.find(str(checkpoint)) if checkpoint != "" else store.favourite()
    ready = task if isinstance(task, Task) else _built(path, task, trust)
    return restore(ready, found, data=data, precision=precision, average=average)


def export(
    run: str | Path | Trained,
    format: str | Sequence[str] = "keras",
    *,
    directory: str | Path | None = None,
    inputs: Any = None,
    **options: Any,
) -> dict[str, float]:
    """Write a trained task to files that need neither this framework nor the run.

    What `Data.map` does to raw inputs is inside, and so is the task's `predict_step`. Inputs and
    outputs have names, and any number of rows. Each file is loaded again at once and compared with
    the task; one that differs by more than 1e-5 is not kept.

    Example:
        >>> framework.export("runs/a", ["keras", "onnx"])
        {'keras': 3.0e-08, 'onnx': 3.7e-08}
        >>> framework.export(framework.load("runs/a", checkpoint="last"), "litert", directory="out")

    Args:
        run: The directory of a run, or what `load` returned.
        format: `keras`, `saved_model`, `litert` or `onnx`, or several of them.
        directory: Where the files go. Default: `export` in the run's directory.
        inputs: Real inputs to compare with. Default: some of the task's own data.
        **options: The arguments of `load`, of which `average` is True here, as in evaluations.

    Returns:
        The largest difference from the task's own predictions, by format.

    Raises:
        UserError: There is no such format, what it needs is not installed, it has no counterpart
            for an operation of the task, or the file would differ from the task.
    """
    with quiet_import():
        from framework.serving.exports import check_formats, export_trained, real_inputs
        from framework.serving.trained import Trained

    formats = [format] if isinstance(format, str) else list(format)
    check_formats(formats)
    trained = run if isinstance(run, Trained) else load(run, **{"average": True, **options})
    given = real_inputs(trained, options.get("data")) if inputs is None else inputs
    place = Path(trained.weights["run"], "export") if directory is None else Path(directory)
    return export_trained(trained, formats, local_path(place, "directory"), given)


def _built(run_dir: Path, kind: type[Task] | str | None, trust: Sequence[str]) -> Task:
    """Return a new task, as the run's configuration describes it."""
    from framework.cli.assemble import build_task, find_task

    config = read_config(run_dir)
    if not config and (run_dir / CONFIG).exists():
        fix = "Restore it, or give the task: load(run_dir, task=MyTask(...))."
        raise UserError("It cannot be read", where=str(run_dir / CONFIG), fix=fix)
    if not config:
        raise UserError(
            "The run does not say how its task was made: it was started from Python",
            where=str(run_dir),
            fix="Give the task: load(run_dir, task=MyTask(...)).",
        )
    parts = {key: config[key] for key in ("task", *PARTS, "schedule") if config.get(key)}
    task = dict(parts.get("task", {}))
    if kind is not None:
        cls = find_task(kind) if isinstance(kind, str) else kind
        task["_target_"] = f"{cls.__module__}.{cls.__qualname__}"
        trust = [*trust, task["_target_"]]
    elif is_absent(str(task.get("_target_", ""))):
        raise UserError(
            f"The run's task is {task.get('_target_')}, and there is no such module here",
            where=f"{run_dir}, task._target_",
            fix="Run it in the project that has it. If the class was moved, say where it is now: "
            "load(run_dir, task='module.Class').",
        )
    parts["task"] = task
    check_config([parts], run_dir, trust)
    check_defined([parts], run_dir, trust)
    _check_plain(parts, run_dir)
    return build_task(parts, ())


def _check_plain(config: Mapping[str, Any], run_dir: Path) -> None:
    for place, text in texts(config):
        key = ".".join(map(str, place))
        raise UserError(
            f"{key} is {text}, and references in a run directory are not resolved",
            where=str(run_dir),
            fix="Give the task: load(run_dir, task=MyTask(...)).",
        )
