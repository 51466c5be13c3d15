"""Reads the columns of a CSV or Parquet file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from framework.core.extras import require
from framework.core.paths import local_path
from framework.errors import UserError

KINDS = (".csv", ".tsv", ".txt", ".parquet", ".pq")


def read_columns(file: str | Path, option: str, separator: str = ",") -> dict[str, np.ndarray]:
    """Return the columns of a file by name.

    Example:
        >>> read_columns("people.csv", "data.file")
        {'age': array([41., nan]), 'city': array(['Oslo', None], dtype=object)}

    Args:
        file: A CSV file with a line of names, or a Parquet file.
        option: The option that names it, for messages.
        separator: What separates the values of a CSV file.

    Returns:
        Arrays of numbers, with NaN for what is missing, or of Python objects, with None. Dates and
        nested values are objects, too.

    Raises:
        UserError: There is no such file, it cannot be read, or it has no rows.
    """
    path = local_path(file, option)
    if path.suffix.lower() not in KINDS:
        raise UserError(
            f"{path.name} is not a table by its name",
            where=option,
            fix=f"Give a file with one of these endings: {', '.join(KINDS)}.",
        )
    if not path.is_file():
        raise UserError(
            f"there is no file {path.absolute()}",
            where=option,
            fix="Give the path of a CSV or Parquet file.",
        )
    require("pyarrow", "table", what="a table", where=option)
    table = _read(path, option, separator)
    twice = {name for name in table.column_names if table.column_names.count(name) > 1}
    if twice:
        raise UserError(
            f"{path.name} has two columns {min(twice)!r}", where=str(path), fix="Rename one."
        )
    if not table.num_rows:
        raise UserError(f"{path.name} has no rows", where=str(path), fix="Give at least one.")
    return {name: _values(table.column(name)) for name in table.column_names}


def _read(path: Path, option: str, separator: str) -> Any:
    from pyarrow import ArrowException, csv, parquet

    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return parquet.read_table(path, partitioning=None)
        if path.suffix.lower() == ".tsv" and separator == ",":
            separator = "\t"
        parsing = csv.ParseOptions(delimiter=separator, newlines_in_values=True)
        converting = csv.ConvertOptions(strings_can_be_null=True, quoted_strings_can_be_null=False)
        return csv.read_csv(path, parse_options=parsing, convert_options=converting)
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        if "CSV conversion error" in str(error):
            fix = "Correct that value. A missing one is left empty, or written as NA or null."
        else:
            fix = "Give a complete table with one line of names, in UTF-8; for other separators "
            fix += "data.separator=';'."
        raise UserError(
            f"{path.name} cannot be read: {str(error)[:300]}", where=f"{option}, {path}", fix=fix
        ) from None


def _values(column: Any) -> np.ndarray:
    from pyarrow import types

    kind = column.type
    if types.is_decimal(kind):
        column = column.cast("float64")
    if types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind):
        found: np.ndarray = column.to_numpy()  # whole numbers with gaps become floats
        return found
    if types.is_null(kind):
        return np.full(len(column), np.nan)
    objects = np.empty(len(column), object)
    objects[:] = column.to_pylist()
    return objects
