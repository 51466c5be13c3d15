"""Write predictions part by part, as .npz, .csv or .parquet: whole or not at all."""

from __future__ import annotations

import csv
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from framework.core.extras import require
from framework.core.nests import named_leaves
from framework.core.safe_files import ours
from framework.errors import UserError, choice

KINDS = (".npz", ".csv", ".parquet")
_WIDEST = 10_000  # columns of a table


class Writer(Protocol):
    """What writes predictions to a file."""

    def add(self, name: str, predictions: Any, rows: Sequence[str] | None = None) -> None:
        """Write the predictions for some rows.

        Args:
            name: The set that the rows belong to, if it has a name.
            predictions: A nest of arrays, with one row for each example.
            rows: The names of the rows, such as those of files. Default: they are counted.
        """

    def close(self) -> None:
        """Complete the file."""


@contextmanager
def writing_predictions(path: Path, class_names: Sequence[str]) -> Iterator[Writer]:
    """Open a file for predictions, of the kind that its name says; it is there once all are.

    Example:
        >>> with writing_predictions(Path("answers.csv"), ["cat", "dog"]) as writer:
        ...     writer.add("", np.array([[0.9, 0.1], [0.2, 0.8]]))
        >>> print(Path("answers.csv").read_text())
        row,class,cat,dog
        0,cat,0.9,0.1
        1,dog,0.2,0.8

    Raises:
        UserError: There is no such kind of file, or it has no place for the predictions.
    """
    check_kind(path)
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        writer = _WRITERS[path.suffix](aside / path.name, class_names)
        try:
            yield writer
        finally:
            writer.close()
        os.replace(aside / path.name, path)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def check_kind(path: Path) -> None:
    """Refuse a file of another kind, or in a directory that does not exist."""
    if path.suffix not in KINDS:
        fix = choice(path.suffix or path.name, KINDS).replace("Choose", "End its name with")
        raise UserError(f"predictions cannot go to {path.name}", where="predict.to", fix=fix)
    if path.suffix == ".parquet":
        require("pyarrow", "table", what="a .parquet file", where="predict.to")
    if not path.parent.is_dir():
        raise UserError(
            "there is no such directory", where=str(path.parent.absolute()), fix="Create it first."
        )
    if path.is_dir():
        raise UserError("it is a directory", where=str(path), fix="Give the name of a file.")


class NpzWriter:
    """Each leaf as one array, and the names of classes and rows.

    A single array is called `predictions`; the arrays of a nest are named by their place: `mean`,
    `0`, `boxes/1`. Types that NumPy's format does not support, such as bfloat16, become float32.
    Numbers wait on the disk, texts in memory, since their longest decides how they are stored.
    """

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        self._path, self._parts = path, dict[str, tuple[IO[bytes], np.ndarray, list[int]]]()
        self._texts = dict[str, list[np.ndarray]]()
        self._classes, self._rows = class_names, list[str]()

    def add(self, name: str, predictions: Any, rows: Sequence[str] | None = None) -> None:
        nest = {name: predictions} if name else predictions
        for key, leaf in named_leaves(nest, "predictions"):
            array = storable(np.asarray(leaf))
            if array.dtype.kind == "S":
                self._texts.setdefault(key, []).append(array)
                continue
            if key not in self._parts:
                place = self._path.with_name(f"part-{len(self._parts)}")
                self._parts[key] = open(place, "wb"), array[:0], [0]  # noqa: SIM115 - see close
            file, _, count = self._parts[key]
            file.write(np.ascontiguousarray(array).tobytes())
            count[0] += len(array)
        self._rows += rows or []

    def close(self) -> None:
        with zipfile.ZipFile(self._path, "w") as archive:
            for key, (file, first, count) in self._parts.items():
                file.close()
                header: dict[str, Any] = {"descr": np.lib.format.dtype_to_descr(first.dtype)}
                header |= {"fortran_order": False, "shape": (count[0], *first.shape[1:])}
                with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    with open(file.name, "rb") as part:
                        shutil.copyfileobj(part, member, 2**20)
            texts = {"class_names": np.array(self._classes, str), "rows": np.array(self._rows, str)}
            texts |= {key: np.concatenate(parts) for key, parts in self._texts.items()}
            for key, array in texts.items():
                if len(array) and key not in self._parts:
                    with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                        np.save(member, array)


class CsvWriter:
    """A line for each row: its number or name, the likeliest class, and every number."""

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        self._columns = Columns(class_names)
        self._file = open(path, "w", encoding="utf-8", newline="", opener=ours)  # noqa: SIM115
        self._out, self._head = csv.writer(self._file), list[str]()

    def add(self, name: str, predictions: Any, rows: Sequence[str] | None = None) -> None:
        columns = self._columns.of(name, predictions, rows)
        if not self._head:
            self._head = list(columns)
            self._out.writerow(self._head)
        texts = [column.astype(str).tolist() for column in columns.values()]
        self._out.writerows(zip(*texts, strict=True))

    def close(self) -> None:
        self._file.close()


class ParquetWriter:
    """The columns of a CSV file, in Parquet."""

    def __init__(self, path: Path, class_names: Sequence[str]) -> None:
        self._columns, self._path = Columns(class_names), path
        self._stack, self._out = ExitStack(), list[Any]()

    def add(self, name: str, predictions: Any, rows: Sequence[str] | None = None) -> None:
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.table(self._columns.of(name, predictions, rows))
        if not self._out:
            opened = parquet.ParquetWriter(self._path, table.schema)
            self._out.append(self._stack.enter_context(opened))
        self._out[0].write_table(table)

    def close(self) -> None:
        self._stack.close()


class Columns:
    """Predictions as the columns of a table."""

    def __init__(self, class_names: Sequence[str]) -> None:
        distinct = len(set(class_names)) == len(class_names)
        self._classes, self._count = list(class_names) if distinct else [], 0

    def of(self, name: str, predictions: Any, rows: Sequence[str] | None) -> Mapping[str, Any]:
        """Return the columns for some rows by name."""
        leaves = named_leaves(predictions, "predictions")
        count = len(leaves[0][1])
        numbers = np.arange(self._count, self._count + count)
        self._count += count
        found: dict[str, Any] = {"set": np.full(count, name)} if name else {}
        found["row"] = numbers if rows is None else np.array(rows, str)
        for key, leaf in leaves:
            array, before = storable(np.asarray(leaf)), "" if len(leaves) == 1 else f"{key}/"
            width = array.shape[1] if array.ndim == 2 else 0
            if array.ndim == 1:
                found[key] = array.astype(str) if array.dtype.kind == "S" else array
            elif width and width == len(self._classes):
                found[f"{before}class"] = np.array(self._classes)[array.argmax(1)]
                found |= {f"{before}{self._classes[i]}": array[:, i] for i in range(width)}
            elif 0 < width <= _WIDEST:
                found |= {f"{key}/{i}": array[:, i] for i in range(width)}
            else:
                raise UserError(
                    f"a table has no place for predictions of shape {array.shape[1:]} for each row",
                    where="predict.to",
                    fix="Write them to an .npz file.",
                )
        return found


def storable(array: np.ndarray) -> np.ndarray:
    """Return an array of a type that NumPy's format has."""
    if array.dtype.kind == "O":
        return array.astype(bytes)  # strings from TensorFlow
    if array.dtype.kind != "V":
        return array
    return array.astype("float32" if "float" in array.dtype.name else "int64")


_WRITERS: dict[str, Callable[[Path, Sequence[str]], Writer]] = {
    ".npz": NpzWriter,
    ".csv": CsvWriter,
    ".parquet": ParquetWriter,
}
