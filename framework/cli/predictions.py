"""`mode=predict` and `mode=export`: what a trained task answers, and its files."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.cli.groups.serving_choices import SPLITS
from framework.cli.run_dir import writing
from framework.core.paths import local_path
from framework.errors import UserError, choice

if TYPE_CHECKING:
    from framework.serving.trained import Trained
    from framework.task import Task
    from framework.trainer import Trainer

_log = logging.getLogger("framework")


def predict_data(
    trainer: Trainer,
    task: Task,
    data: Any,
    options: Mapping[str, Any],
    checkpoint: str | None,
    run_dir: Path | None,
) -> None:
    """Predict on a set of the data, and write the answers.

    Args:
        trainer: The trainer.
        task: The task.
        data: Its data.
        options: See `PredictConfig`.
        checkpoint: The checkpoint whose weights to use; None: the initial weights.
        run_dir: Where `predictions.npz` goes; None: the answers are thrown away.
    """
    from framework.serving.writers import writing_predictions

    split = options["split"] or "predict"
    if split not in SPLITS:
        raise UserError(f"split is {split!r}", where="predict.split", fix=choice(split, SPLITS))
    path = _target(options, run_dir)
    if path is None:
        trainer.predict(task, data, checkpoint, split=split, each=lambda name, part: None)
        return
    names = getattr(data, "class_names", ())
    with writing(path.parent), writing_predictions(path, names) as writer:
        trainer.predict(task, data, checkpoint, split=split, each=writer.add)
    _log.info("Predictions: %s", path)


def predict_file(
    task: Task, options: Mapping[str, Any], checkpoint: str | None, precision: str, run_dir: Any
) -> None:
    """Predict on a file or a folder of images, without the task's data; see `predict_data`."""
    from framework.serving.readers import read_inputs
    from framework.serving.writers import writing_predictions

    if options["split"]:
        fix = "Give predict.file=, or predict.split=."
        raise UserError("both a file and a split are given", where="predict.split", fix=fix)
    path = _target(options, run_dir)
    trained = _restored(task, checkpoint, precision)
    if path is None:
        path = Path("predictions.npz")
    parts = read_inputs(
        str(options["file"]),
        trained.answers,
        prepare=task.runtime.preprocessing,
        array=options["array"],
        resize=options["resize"],
    )
    rows = 0
    with writing(path.parent), writing_predictions(path, trained.class_names) as writer:
        for given, names in parts:
            found = trained.answers(given)
            rows += len(next(iter(found.values())))
            writer.add("", trained.answers.packed(found), names)
    _log.info("Predictions for %s rows: %s", f"{rows:,}", path)


def export_run(
    task: Task, options: Mapping[str, Any], checkpoint: str | None, precision: str, run_dir: Any
) -> None:
    """Export a trained task.

    Args:
        task: The task.
        options: See `ExportConfig`.
        checkpoint: The checkpoint to export.
        precision: The precision to compute in.
        run_dir: The directory of the run.
    """
    from framework.serving.exports import check_formats, export_trained, real_inputs

    given = options["format"]
    formats = [given] if isinstance(given, str) else list(given or ())
    check_formats(formats)
    trained = _restored(task, checkpoint, precision)
    inputs = real_inputs(trained)
    place = options["dir"] or Path(run_dir or Path(str(checkpoint)).parents[1], "export")
    directory = local_path(place, "export.dir")
    with writing(directory):
        export_trained(trained, formats, directory, inputs)


def _restored(task: Task, checkpoint: str | None, precision: str) -> Trained:
    from framework.run.evaluated_weights import in_words
    from framework.serving.trained import restore

    if checkpoint is None:
        raise UserError(
            "there is no trained task to use",
            where="run_dir",
            fix="Give the run_dir= of a run, or checkpoint=<path>.",
        )
    trained = restore(
        task, Path(checkpoint), data=task.build_data, precision=precision, average=True
    )
    own = {name: value for name, value in trained.weights.items() if name != "run"}
    _log.info("with %s", in_words(own))
    return trained


def _target(options: Mapping[str, Any], run_dir: Path | None) -> Path | None:
    from framework.serving.writers import check_kind

    if options["to"] is None:
        return None if run_dir is None else run_dir / "predictions.npz"
    path = local_path(str(options["to"]), "predict.to")
    check_kind(path)
    return path
