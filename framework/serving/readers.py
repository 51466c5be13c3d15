"""Read raw inputs from files, part by part: .npz, .csv, .parquet, or a folder of images."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import tensorflow as tf

from framework.core.extras import require
from framework.core.paths import local_path
from framework.datasets.table_file import KINDS, read_columns
from framework.errors import UserError, choice
from framework.serving.answers import Answers, Arrays

_WHERE = "predict.file"
_TABLES = (".csv", ".parquet")
_IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")

Part = tuple[Arrays, Sequence[str] | None]


def read_inputs(
    file: str,
    answers: Answers,
    *,
    prepare: Any = None,
    array: str | None = None,
    resize: bool = False,
) -> Iterator[Part]:
    """Yield raw inputs by name, as `Answers.named` returns them, and the names of their rows.

    Args:
        file: The file, or the folder of images.
        answers: What the inputs are for.
        prepare: The preprocessing of a run on a table or on files of images.
        array: The array of an `.npz` file, for a task with a single input.
        resize: Stretch images of other sizes.

    Raises:
        UserError: There is no such file, or it does not hold what the task takes.
    """
    path = local_path(file, _WHERE)
    if path.is_dir():
        parts = _images(path, answers, prepare, resize=resize)
    elif not path.exists():
        fix = "Give an .npz, .csv or .parquet file, or a folder of images."
        raise UserError("there is no such file", where=f"{_WHERE}={file}", fix=fix)
    elif path.suffix == ".npz":
        parts = _of_npz(path, answers, array)
    elif prepare is not None and path.suffix in KINDS:
        parts = _prepared(read_columns(path, _WHERE), answers, prepare)
    elif path.suffix in _TABLES:
        require("pyarrow", "table", what=f"a {path.suffix} file", where=_WHERE)
        parts = _of_table(path, answers)
    else:
        fix = f"{choice(path.suffix, ('.npz', *_TABLES))} Or give a folder of images."
        raise UserError(f"{path.name} is not a file of inputs by its name", where=_WHERE, fix=fix)
    empty = True
    for given, rows in parts:
        empty = False
        yield answers.named(given), rows
    if empty:
        raise UserError("it has no rows", where=str(path), fix="Give at least one.")


# ---- .npz


def _of_npz(path: Path, answers: Answers, array: str | None) -> Iterator[Part]:
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError) as error:
        raise _unreadable(path, error) from error
    with archive:
        there = [n.removesuffix(".npy") for n in archive.namelist() if n.endswith(".npy")]
        names = _arrays(path, there, list(answers.inputs), array)
        members = {name: _Member(path, archive, held) for name, held in names.items()}
        counts = {len(member) for member in members.values()}
        if len(counts) > 1:
            lengths = ", ".join(f"{name}: {len(m):,}" for name, m in members.items())
            raise UserError(
                f"its arrays differ in their number of rows ({lengths})",
                where=str(path),
                fix="Give every array one row for each example.",
            )
        size = answers.rows_at_once()
        for start in range(0, counts.pop(), size):
            yield {n: m.next_rows(min(size, len(m) - start)) for n, m in members.items()}, None


def _arrays(path: Path, there: list[str], wanted: list[str], array: str | None) -> dict[str, str]:
    """Return the array of a file for each input."""
    if array is not None and len(wanted) == 1:
        if array not in there:
            raise UserError(
                f"{path.name} has no array {array!r}",
                where="predict.array",
                fix=choice(array, there),
            )
        return {wanted[0]: array}
    if set(wanted) <= set(there):
        return {name: name for name in wanted}
    if len(wanted) == len(there) == 1:
        return {wanted[0]: there[0]}
    fix = f"It has {', '.join(there) or 'none'}. "
    fix += "Say which: predict.array=<name>." if len(wanted) == 1 else "Name them like the inputs."
    raise UserError(f"{path.name} has no {', '.join(wanted)}", where=_WHERE, fix=fix)


class _Member:
    """One array of an `.npz` file, read in order, a few rows at a time."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, name: str) -> None:
        self._path, info = path, archive.getinfo(f"{name}.npy")
        try:
            self._file: IO[bytes] = archive.open(info)
            version = np.lib.format.read_magic(self._file)
            read = np.lib.format.read_array_header_1_0
            if version != (1, 0):
                read = np.lib.format.read_array_header_2_0
            shape, fortran, self._dtype = read(self._file)
        except Exception as error:  # the file is damaged, in any of many ways
            raise _unreadable(path, error) from error
        if self._dtype.hasobject or fortran or not shape:
            what = "holds Python objects" if self._dtype.hasobject else "is not an array of rows"
            fix = "Save it with np.savez, as np.ascontiguousarray(array) of numbers."
            raise UserError(f"{name} {what}", where=str(path), fix=fix)
        self._rows, self._shape = int(shape[0]), tuple(map(int, shape[1:]))
        self._bytes = int(np.prod(self._shape, dtype=object) or 0) * self._dtype.itemsize
        if self._rows * self._bytes > info.file_size:
            raise _unreadable(path, "it is cut off")

    def __len__(self) -> int:
        return self._rows

    def next_rows(self, count: int) -> np.ndarray:
        try:
            content = self._file.read(count * self._bytes)
            found = np.frombuffer(content, self._dtype)
            return found.reshape(count, *self._shape)
        except Exception as error:
            raise _unreadable(self._path, error) from error


# ---- tables


def _of_table(path: Path, answers: Answers) -> Iterator[Part]:
    from pyarrow import ArrowException, csv, parquet

    try:
        if path.suffix == ".csv":
            batches: Any = csv.open_csv(path)
        else:
            batches = parquet.ParquetFile(path).iter_batches(answers.rows_at_once())
        for batch in batches:
            if batch.num_rows:
                yield _of_columns(path, batch, answers), None
    except (ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


def _prepared(columns: Mapping[str, Any], answers: Answers, prepare: Any) -> Iterator[Part]:
    size = answers.rows_at_once()
    for start in range(0, len(next(iter(columns.values()))), size):
        yield prepare({name: c[start : start + size] for name, c in columns.items()}), None


def _of_columns(path: Path, batch: Any, answers: Answers) -> dict[str, np.ndarray]:
    """Return columns as inputs: by their names, or all of them in order for a single input."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    inputs = answers.inputs
    if set(inputs) <= set(columns):
        held = {name: [columns[name]] for name in inputs}
    elif len(inputs) == 1:
        held = {next(iter(inputs)): list(columns.values())}
    else:
        raise UserError(
            f"{path.name} has the columns {', '.join(list(columns)[:20])}",
            where=_WHERE,
            fix=f"Name a column for each input: {', '.join(inputs)}.",
        )
    found = {}
    for name, parts in held.items():
        arrays = [_numbers(path, part, list(columns)) for part in parts]
        array = arrays[0] if len(arrays) == 1 else np.stack(arrays, 1)
        row, count = inputs[name].shape[1:], array[:1].size
        if row.num_elements() not in (None, count):
            raise UserError(
                f"{path.name} has {count} numbers in a row, and {name} of the task "
                f"{row.num_elements()}",
                where=_WHERE,
                fix="Give a column for each number, in order, and no others.",
            )
        fixed = row.is_fully_defined()
        found[name] = array.reshape(len(array), *row.as_list()) if fixed else array
    return found


def _numbers(path: Path, column: Any, names: Sequence[str]) -> np.ndarray:
    from pyarrow import types

    kind = column.type
    if types.is_string(kind) or types.is_large_string(kind):
        return np.array(column.to_pylist(), object)
    if types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind):
        array: np.ndarray = column.to_numpy(zero_copy_only=False)
        return array
    try:
        return np.array(column.to_pylist(), np.float64)  # lists of numbers
    except (TypeError, ValueError):
        raise UserError(
            f"{path.name} has a column of {kind} among {', '.join(names[:20])}",
            where=_WHERE,
            fix="Give columns of numbers.",
        ) from None


# ---- images


def _images(folder: Path, answers: Answers, prepare: Any, *, resize: bool) -> Iterator[Part]:
    if len(answers.inputs) != 1:
        fix = f"Give a file with {', '.join(answers.inputs)}."
        raise UserError("the task takes more than an image", where=_WHERE, fix=fix)
    (name, spec), *_ = answers.inputs.items()
    if prepare is None and (spec.dtype != tf.uint8 or spec.shape.rank not in (3, 4)):
        raise UserError(
            f"the task does not take raw images, but {spec.dtype.name} of shape {spec.shape[1:]}",
            where=_WHERE,
            fix="Give an .npz file of such arrays.",
        )
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _IMAGES and p.is_file())
    if not paths:
        fix = f"Give a folder with files that end with one of {', '.join(_IMAGES)}."
        raise UserError("there are no images in it", where=str(folder), fix=fix)
    size = answers.rows_at_once()
    for start in range(0, len(paths), size):
        chosen = paths[start : start + size]
        if prepare is not None:
            images = prepare(chosen)
        else:
            images = np.stack([_image(path, spec.shape[1:], resize=resize) for path in chosen])
        yield {name: images}, [str(path.relative_to(folder)) for path in chosen]


def _image(path: Path, shape: tf.TensorShape, *, resize: bool) -> np.ndarray:
    """Return an image as uint8 in the shape of an input: [height, width] or with channels."""
    channels = 1 if shape.rank == 2 else shape[2]
    try:
        image = tf.io.decode_image(path.read_bytes(), channels, expand_animations=False)
    except (tf.errors.OpError, OSError) as error:
        raise _unreadable(path, error) from error
    wanted, there = shape[:2].as_list(), image.shape[:2].as_list()
    if None not in wanted and wanted != there:
        if not resize:
            raise UserError(
                f"{path.name} has {there[0]} x {there[1]} pixels, and the task takes "
                f"{wanted[0]} x {wanted[1]}",
                where=str(path),
                fix="Give images of that size, or stretch them: predict.resize=true.",
            )
        image = tf.cast(tf.round(tf.image.resize(image, wanted)), tf.uint8)
    found: np.ndarray = image.numpy()
    return found[..., 0] if shape.rank == 2 else found


def _unreadable(path: Path, reason: object) -> UserError:
    about = str(reason).splitlines()[0] if str(reason) else type(reason).__name__
    return UserError(
        f"{path.name} cannot be read: {about[:200]}", where=str(path), fix="Give a complete file."
    )
