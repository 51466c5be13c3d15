"""metrics.csv: one row per logged step."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from framework.errors import UserError
from framework.loggers.base import Logger
from framework.paths import local_path

_KEYS = ["step", "epoch"]


class CSVLogger(Logger):
    """Write `metrics.csv`: the columns step and epoch, then each metric as it first appears.

    Values logged for the same step share one row; a value that was not logged at a step is an
    empty cell. Numbers keep their full precision, so that two runs can be compared bit for bit;
    `nan` and `inf` are spelled so.

    Every value is handed to the operating system at once. A row stays open, without its line
    end, until the next step begins, since more of its values may follow. A metric that was never
    seen before rewrites the file whole: follow it with `tail -F`, which survives that.

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
        filename: The file's name below the run directory.
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
        """Start or continue `run_dir/metrics.csv`, without the rows past `step`.

        A last line that a killed run left torn is dropped as well.

        Args:
            run_dir: The run's directory; created if missing.
            step: Optimizer steps done so far: 0 for a new run. None: keep every row.

        Raises:
            UserError: There is a file of this name that is no such log.
            OSError: It cannot be written.
        """
        self.close()
        self._path = Path(run_dir) / self.filename
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._columns, rows = _read(self._path)
        logged = list(rows)
        kept = [row for row in logged if step is None or int(row["step"]) <= step]
        if len(kept) < len(logged):  # what was only seen past `step` was never seen
            seen = {name for row in kept for name in row} | set(_KEYS)
            self._columns = [name for name in self._columns if name in seen]
        self._rewrite(kept)

    def forget(self, stage: str) -> None:
        """Drop the values, rows and columns that are of a stage alone."""
        if self._file is None:
            raise RuntimeError(f"{self.filename} is not open")
        self._close_row()
        _, rows = _read(self._path)
        of_stage = {name for name in self._columns if name.startswith(f"{stage}/")}
        kept = [{k: v for k, v in row.items() if k not in of_stage} for row in rows]
        self._columns = [name for name in self._columns if name not in of_stage]
        self._rewrite(row for row in kept if len(row) > len(_KEYS))

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Record values by name at `step`; see the class for where they go."""
        if self._file is None:
            raise RuntimeError(f"{self.filename} is not open")
        cells = {name: repr(float(value)) for name, value in metrics.items()}
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
        """Finish the last row and close the file. Closing twice is fine."""
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
        # A comma after the last value says that it is whole: a torn one has none.
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
        """Replace the file by one with these rows in the present columns; leave the last open."""
        if self._file is not None:
            self._file.close()
        aside = self._path.with_name(self._path.name + ".tmp")
        self._row, self._written = {}, b""
        try:
            with aside.open("wb") as out:
                out.write((_csv_line(self._columns) + "\n").encode())
                for row in rows:
                    line = ",".join(row.get(name, "") for name in self._columns) + "\n"
                    self._row, self._row_start, self._written = row, out.tell(), line.encode()
                    out.write(self._written)
                out.flush()
                os.fsync(out.fileno())
            os.replace(aside, self._path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        self._file = self._path.open("r+b")


def _csv_line(cells: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue()


def _read(path: Path) -> tuple[list[str], Iterator[dict[str, str]]]:
    """Return the columns of a log, and its rows as text by column, empty cells left out."""
    try:
        with path.open("rb") as file:
            header = file.readline()
            start = file.tell()
    except FileNotFoundError:
        return list(_KEYS), iter(())
    if not header.endswith(b"\n"):
        return list(_KEYS), iter(())
    columns = next(csv.reader([header.decode(errors="replace").rstrip("\r\n")]), [])
    if columns[:2] != _KEYS or len(set(columns)) != len(columns):
        raise UserError(
            f"{path.name} is not a log of this framework: its columns are not step, epoch, …",
            where=str(path),
            fix="Move it away, or choose another run_dir.",
        )
    return columns, _rows(path, start, columns)


def _rows(path: Path, start: int, columns: list[str]) -> Iterator[dict[str, str]]:
    with path.open("rb") as file:
        file.seek(start)
        for line in file:
            # What follows the last comma of an unfinished line may be half a number.
            whole = line if line.endswith(b"\n") else line.rpartition(b",")[0]
            cells = whole.decode(errors="replace").rstrip("\r\n").split(",")
            row = {name: cell for name, cell in zip(columns, cells, strict=False) if cell}
            if not (row.get("step", "").isdecimal() and row.get("epoch", "").isdecimal()):
                return
            yield row


def _merged(
    rows: Iterator[dict[str, str]], step: int, epoch: int, cells: Mapping[str, str]
) -> Iterator[dict[str, str]]:
    """Put values into the row of an earlier step, or make that row in its place."""
    done = False
    for row in rows:
        at = int(row["step"])
        if not done and at > step:
            yield {"step": str(step), "epoch": str(epoch), **cells}
        elif not done and at == step:
            row.update(cells)
        done = done or at >= step
        yield row
