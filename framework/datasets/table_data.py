"""Tables: the function behind `data=table`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.core.fractions import exact
from framework.datasets.columns import Columns, as_values
from framework.datasets.learning_columns import Wishes, learn_columns
from framework.datasets.preprocessing import load_preprocessing
from framework.datasets.table_file import read_columns
from framework.errors import UserError

if TYPE_CHECKING:
    from framework.data import Data

Rows = dict[str, np.ndarray]
Table = str | Path | Mapping[str, Any]


def table_data(
    file: Table | None = None,
    *,
    target: str | None = None,
    val: Table | None = None,
    test: Table | None = None,
    predict: Table | None = None,
    fitted: str | Path | None = None,
    val_fraction: float = 0.0,
    test_fraction: float = 0.0,
    split_seed: int = 0,
    separator: str = ",",
    batch_size: int = 32,
    eval_batch_size: int | None = None,
    resident: bool | None = None,
    shuffle: bool = True,
    **wishes: Any,
) -> Data:
    """Create the `Data` of a table: columns of numbers, categories and texts, and a target.

    What is done to each column is learned from the training rows alone: means and scales of
    numbers, the values of categories, the words of texts. It is `Data.preprocessing`, is saved with
    the run, and can be applied to new rows without the training data. A batch is a dict of
    `numbers` (float32), `categories` (int32, 0 for one that training never had) and an array for
    each column of texts (int32, padded with 0), and the labels.

    Example:
        >>> data = table_data("people.csv", target="income", test_fraction=0.2)
        >>> data.preprocessing({"age": [41], "city": ["Oslo"]})
        {'numbers': array([[0.31]], dtype=float32), 'categories': array([[2]], dtype=int32)}

    Args:
        file: The training rows: a CSV or Parquet file, or columns by name, such as a data frame.
        target: The column to predict.
        val: The validation rows, if they are apart.
        test: The test rows, if they are apart.
        predict: Rows to predict on, which need no target.
        fitted: A run, whose preprocessing is then used instead of learning it from `file`.
        val_fraction: Fraction of the rows of `file` to validate on.
        test_fraction: Fraction of the rows of `file` to test on.
        split_seed: The seed that draws them.
        separator: What separates the values of a CSV file.
        batch_size: Rows per training batch.
        eval_batch_size: See `Data`.
        resident: See `Data`.
        shuffle: See `Data`.
        **wishes: What is said of the columns; see `Wishes`.

    Returns:
        Data with `preprocessing` (`Columns`) and, if the target has classes, `class_names`.

    Raises:
        UserError: A file or a column is missing or unfit.
    """
    from framework.data import Data

    options: dict[str, Any] = {"batch_size": batch_size, "eval_batch_size": eval_batch_size}
    options |= {"resident": resident, "shuffle": shuffle}
    Data(**options)  # checks them first
    given = {"train": (file, "file"), "val": (val, "val"), "test": (test, "test")}
    given["predict"] = predict, "predict"
    sets = {
        name: _rows(table, f"data.{option}", separator)
        for name, (table, option) in given.items()
        if table is not None
    }
    if not sets:
        raise UserError("there is no table", where="data.file", fix="Give data.file=<path>.")
    if "train" in sets:
        sets |= _split(sets, {"val": val_fraction, "test": test_fraction}, split_seed)
    columns = _columns(sets.get("train"), target, fitted, wishes)
    assert columns.target is not None
    info = {"target": columns.target.name, "inputs": len(columns.names)}
    if isinstance(file, (str, Path)):
        info["name"] = Path(file).name
    return Data(
        **{name: _batch(columns, rows, name) for name, rows in sets.items()},
        info={"source": "table", **info},
        preprocessing=columns,
        class_names=columns.target.classes,
        **options,
    )


def _columns(
    train: Rows | None, target: str | None, fitted: str | Path | None, wishes: dict[str, Any]
) -> Columns:
    if fitted is not None:
        found = load_preprocessing(fitted, where="data.fitted")
        if not isinstance(found, Columns):
            raise UserError(
                f"the run was not trained on a table: {fitted}",
                where="data.fitted",
                fix="Give the directory of a run with data=table.",
            )
        return found
    if train is None:
        raise UserError(
            "there are no training rows to learn the columns from",
            where="data.file",
            fix="Give data.file=<path>, or data.fitted=<run> to use what a run learned.",
        )
    if target is None:
        raise UserError(
            "the column to predict is not given",
            where="data.target",
            fix=f"Give data.target=<one of {', '.join(train)}>.",
        )
    return learn_columns(train, Wishes(target, **wishes))


def _rows(table: Table, option: str, separator: str) -> Rows:
    if isinstance(table, (str, Path)):
        return read_columns(table, option, separator)
    found = {str(name): as_values(column) for name, column in table.items()}
    if len({len(column) for column in found.values()}) != 1 or not len(next(iter(found.values()))):
        raise UserError(
            "the columns are empty, or differ in their number of rows",
            where=option,
            fix="Give every column one value for each row.",
        )
    return found


def _split(sets: Mapping[str, Rows], fractions: Mapping[str, float], seed: int) -> dict[str, Rows]:
    """Return the training rows without those that are held out, and the sets of these."""
    train = sets["train"]
    count = len(next(iter(train.values())))
    order, at = np.random.default_rng(seed).permutation(count), 0
    found: dict[str, Rows] = {}
    for name, fraction in fractions.items():
        if not 0 <= fraction < 1 or (fraction and name in sets):
            twice = f", and data.{name} is given, too" if name in sets else ""
            raise UserError(
                f"{name}_fraction is {fraction}{twice}",
                where=f"data.{name}_fraction",
                fix="Give a fraction from 0 (none) to below 1, or a file of its own.",
            )
        held = max(1, round(exact(fraction) * count)) if fraction else 0
        if held:
            found[name] = _taken(train, np.sort(order[at : at + held]))
            at += held
    if at >= count:
        raise UserError(
            f"no row of {count:,} is left to train on",
            where="data.val_fraction, data.test_fraction",
            fix="Give smaller fractions.",
        )
    return {**found, "train": _taken(train, np.sort(order[at:])) if at else train}


def _taken(rows: Rows, numbers: Sequence[int] | np.ndarray) -> Rows:
    return {name: column[numbers] for name, column in rows.items()}


def _batch(columns: Columns, rows: Rows, name: str) -> Any:
    what = {"train": "training", "val": "validation"}.get(name, name)
    inputs = columns(rows, what)
    assert columns.target is not None
    if name == "predict" and columns.target.name not in rows:
        return inputs
    return inputs, columns.labels(rows, what)
