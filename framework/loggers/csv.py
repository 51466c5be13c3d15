"""Writes `metrics.csv`: one row per logged step."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from framework.core.paths import local_path
from framework.core.safe_files import ours, replacing
from framework.errors import UserError
from framework.logger import Logger
from framework.loggers.keep_damaged import keep_aside

_KEYS = ["step", "epoch"]
_WITH_KEYS = b"step,epoch,"
_LONGEST = 2**20  # bytes of a line


class CSVLogger(Logger):
    """Write `metrics.csv`: the columns step and epoch, then one column per metric.

    Metrics have columns in the order of their first appearance. Values of the same step share one
    row; a value that was not logged at a step is an empty cell. Numbers have full precision, so
    you can compare two runs bit for bit; not-finite values are written as `nan` and `inf`.

    Every value is passed to the operating system at once. A row stays open, without its line end,
    until a value of the next step is logged. A new metric rewrites the whole file: follow it with
    `tail -F`, which handles that.

    A metric named `step` or `epoch` has the column `logged/step` or `logged/epoch`.

    Example:
        >>> logger = CSVLogger()
        >>> logger.open(Path("runs/a"), step=0)
        >>> logger.log_metrics({"train/loss": 2.5}, step=50, epoch=1)
        >>> logger.log_metrics({"val/loss": 2.25}, step=50, epoch=1)
        >>> logger.close()
        >>> print(Path("runs/a/metrics.csv").read_text(), end="")
        step,epoch,train/loss,val/loss
        50,1,2.5,2.25

    Args:
        filename: File name relative to the run directory.
    """

    def __init__(self, filename: str = "metrics.csv") -> None:
        self.filename = str(local_path(filename, "CSVLogger(filename=...)"))
        self._path = Path(self.filename)
        self._file: BinaryIO | None = None
        self._columns = list(_KEYS)
        self._row: dict[str, str] = {}
        self._row_start = 0
        self._written = b""

    def open(self, run_dir: Path, step: int | None) -> None:
        """Start or continue `run_dir/metrics.csv`, without the rows after `step`.

        An incomplete last line of a killed run is dropped too.

        Args:
            run_dir: The run directory; created if missing.
            step: Optimizer steps done so far: 0 for a new run. None: keep every row.

        Raises:
            UserError: If there is a file of this name with other content.
            OSError: If the file cannot be written.
        """
        self.close()
        self._path = Path(run_dir) / self.filename
        self._path.parent.mkdir(parents=True, exist_ok=True)
        broken: list[int] = []
        self._columns, rows = _read(self._path, broken)
        logged = in_order(rows, broken)
        if broken:
            keep_aside(self._path, f"the {len(logged)} rows that can be read")
        kept = [row for row in logged if step is None or int(row["step"]) <= step]
        if len(kept) < len(logged):  # drop columns without values up to `step`
            seen = {name for row in kept for name in row} | set(_KEYS)
            self._columns = [name for name in self._columns if name in seen]
        self._rewrite(kept)

    def forget(self, stage: str) -> None:
        """Drop the values of a stage, and rows and columns that have no others."""
        if self._file is None:
            raise RuntimeError(f"{self.filename} is not open")
        self._close_row()
        _, rows = _read(self._path)
        of_stage = {name for name in self._columns if name.startswith(f"{stage}/")}
        kept = [{k: v for k, v in row.items() if k not in of_stage} for row in rows]
        self._columns = [name for name in self._columns if name not in of_stage]
        self._rewrite(row for row in kept if len(row) > len(_KEYS))

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Write values by name into the row of `step`."""
        if self._file is None:
            raise RuntimeError(f"{self.filename} is not open")
        cells = {_column(name): repr(float(value)) for name, value in metrics.items()}
        new = [name for name in cells if name not in self._columns]
        earlier = int(self._row.get("step", step)) > step
        if new or earlier:
            self._close_row()
            columns, rows = _read(self._path)
            self._columns = columns + new
            self._rewrite(_merged(rows, step, epoch, cells) if earlier else rows)
        if earlier:
            return
        if self._row.get("step") != str(step):
            self._close_row()
            self._row_start = self._file.seek(0, os.SEEK_END)
            self._row, self._written = {"step": str(step), "epoch": str(epoch)}, b""
        self._row.update(cells)
        self._write_row(complete=False)

    def close(self) -> None:
        """Finish the last row and close the file. It is safe to call this twice."""
        if self._file is None:
            return
        try:
            self._close_row()
        finally:
            file, self._file = self._file, None
            self._row, self._written = {}, b""
            file.close()

    def _close_row(self) -> None:
        if self._row:
            self._write_row(complete=True)

    def _write_row(self, complete: bool) -> None:
        assert self._file is not None
        filled = 1 + max(i for i, name in enumerate(self._columns) if name in self._row)
        if complete:
            filled = len(self._columns)
        text = ",".join(self._row.get(name, "") for name in self._columns[:filled])
        # A comma after the last value shows that the value is complete.
        line = (text + ("\n" if filled == len(self._columns) else ",")).encode()
        if line.startswith(self._written):
            self._file.seek(self._row_start + len(self._written))
            self._file.write(line[len(self._written) :])
        else:
            self._file.seek(self._row_start)
            self._file.write(line)
            self._file.truncate()
        self._file.flush()
        self._written = line

    def _rewrite(self, rows: Iterable[dict[str, str]]) -> None:
        """Replace the file with these rows in the current columns; leave the last row open."""
        if self._file is not None:
            self._file.close()
        self._row, self._written = {}, b""
        with replacing(self._path) as out:
            out.write((_csv_line(self._columns) + "\n").encode())
            for row in rows:
                line = ",".join(row.get(name, "") for name in self._columns) + "\n"
                self._row, self._row_start, self._written = row, out.tell(), line.encode()
                out.write(self._written)
            out.flush()
            os.fsync(out.fileno())
        self._file = open(self._path, "r+b", opener=ours)  # noqa: SIM115 - closed by close


def _column(name: str) -> str:
    return f"logged/{name}" if name in _KEYS else name


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _read(
    path: Path, broken: list[int] | None = None
) -> tuple[list[str], Iterator[dict[str, str]]]:
    """Return the columns of a log, and its rows as text by column, without empty cells.

    Args:
        path: The log.
        broken: Receives the offsets of lines that cannot be read; other rows are returned.
    """
    try:
        with open(path, "rb", opener=ours) as file:
            header = file.readline(_LONGEST)
            start = file.tell()
    except FileNotFoundError:
        return list(_KEYS), iter(())
    if not header.endswith(b"\n"):
        if not header.startswith(_WITH_KEYS[: len(header)]) and broken is not None:
            broken.append(0)
        return list(_KEYS), iter(())
    columns = _columns(header)
    if columns is None:
        if broken is not None:
            broken.append(0)
        return list(_KEYS), iter(())
    if set(columns[:2]).isdisjoint(_KEYS):
        raise UserError(
            f"{path.name} is not a log of this framework: its columns are not step, epoch, …",
            where=str(path),
            fix="Move it away, or choose another run_dir.",
        )
    if (columns[:2] != _KEYS or len(set(columns)) != len(columns)) and broken is not None:
        broken.append(0)
    columns = _KEYS + [name for name in dict.fromkeys(columns[2:]) if name not in _KEYS]
    return columns, _rows(path, start, columns, broken)


def _columns(header: bytes) -> list[str] | None:
    """Return the columns that a header names, or None if it is not text."""
    try:
        text = header.decode().rstrip("\r\n")
        return next(csv.reader([text]), []) if text.isprintable() else None
    except (UnicodeDecodeError, csv.Error):
        return None


def _rows(
    path: Path, start: int, columns: list[str], broken: list[int] | None
) -> Iterator[dict[str, str]]:
    with open(path, "rb", opener=ours) as file:
        file.seek(start)
        place = start
        while line := file.readline(_LONGEST):
            # The text after the last comma of an incomplete line may be half a number.
            whole = line if line.endswith(b"\n") else line.rpartition(b",")[0]
            cells = whole.decode(errors="replace").rstrip("\r\n").split(",")
            row = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
            read = len(cells) <= len(columns) and row.keys() >= set(_KEYS)
            if read and all(map(_is_number, row.items())):
                yield row
            elif line.endswith(b"\n") and broken is not None:
                broken.append(place)
            place = file.tell()


def _is_number(cell: tuple[str, str]) -> bool:
    name, text = cell
    if name in _KEYS:
        return text.isascii() and text.isdecimal() and len(text) < 20
    try:
        float(text)
    except ValueError:
        return False
    return True


def in_order(rows: Iterable[dict[str, str]], broken: list[int]) -> list[dict[str, str]]:
    """Return the rows, without those that have a higher step than the rows after them."""
    kept: list[dict[str, str]] = []
    for row in rows:
        step = int(row["step"])
        if kept and int(kept[-1]["step"]) > step:
            broken.append(-1)
            before = int(kept[-2]["step"]) if len(kept) > 1 else 0
            if before > step:
                continue
            kept.pop()
        kept.append(row)
    return kept


def _merged(
    rows: Iterator[dict[str, str]], step: int, epoch: int, cells: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """Add values to the row of an earlier step, or insert that row."""
    done = False
    for row in rows:
        at = int(row["step"])
        if not done and at > step:
            yield {"step": str(step), "epoch": str(epoch), **cells}
        elif not done and at == step:
            row.update(cells)
        done = done or at >= step
        yield row
