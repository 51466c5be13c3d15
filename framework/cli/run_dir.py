"""The run directory: it holds a run's files, and only one process may write to it."""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from framework.cli.untrusted_yaml import read_yaml
from framework.config import TrainerConfig, options_with
from framework.core.lock import locked
from framework.core.safe_files import NotAFile, check_directory, ours, read_bytes, replacing
from framework.core.same_option import same
from framework.errors import UserError
from framework.text.escape import PlainFormatter
from framework.text.tables import table

CONFIG, OVERRIDES, LOG = "config.yaml", "overrides.yaml", "log.txt"
FOLDERS = ("checkpoints", "train", "val", "test")
_MAX_BYTES = 2**24  # bytes; the largest file kept in memory to restore later

# Options that may change when a run resumes: its length, its output, the data's location.
_MAY_DIFFER = {
    "mode", "checkpoint", "weights_only", "resume", "resume_data", "run_dir", "sweep_dir", "debug",
    "verbosity", "jobs", "objective", "direction", "search", "lr_find", "batch_size_find",
    "export", "predict",
    "trust", "loggers", "callbacks.checkpoint",
    *(f"data.{name}" for name in ("dir", "file", "val", "test", "predict", "fitted", "on_error")),
    *(f"data.{name}" for name in ("workers", "eval_batch_size", "resident")),
    *(f"trainer.{name}" for name in options_with(identity=False) if name != "engine"),
}  # fmt: skip
# Options in which a whole number is a count, and a fraction a share.
_SHARES = {*options_with(share=True), "callbacks.swa.start"}
# Options that must match for weights to fit.
_MUST_AGREE = ("task", "model")

_log = logging.getLogger("framework")


def make_dirs(path: Path) -> list[Path]:
    """Create a directory and its parents; return the ones that were missing, outermost first."""
    missing = [p for p in (path, *path.parents) if not p.exists()][::-1]
    for folder in missing:
        folder.mkdir(exist_ok=True)
    return missing


def make_unique(parent: Path, prefix: str = "") -> list[Path]:
    """Create `<parent>/<prefix><time>-<random>`, a new directory.

    Returns:
        The directories that were created, outermost first; the last one is the new directory.
    """
    made: list[Path] = []
    while True:
        path = parent / f"{prefix}{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        made += make_dirs(parent)
        try:
            path.mkdir()
        except (FileExistsError, FileNotFoundError) as error:
            # The name is taken, or another run has just removed the empty parent.
            if isinstance(error, FileNotFoundError) and parent.exists():
                raise
            continue
        return [*made, path]


def remove_empty(made: Sequence[Path]) -> None:
    """Remove the empty ones of these directories, innermost first."""
    for path in reversed(made):
        try:
            path.rmdir()
        except OSError:
            continue


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into a `UserError` that names the directory."""
    try:
        yield
    except NotAFile as error:
        raise error.refused() from error
    except OSError as error:
        raise UserError(
            f"Cannot write there: {error.strerror or error}",
            where=str(error.filename or path),
            fix="Make room, or choose another place: run_dir=<path>, or sweep_dir with -m.",
        ) from error


class _LogFile(logging.FileHandler):
    """The run's log. A failure to write it, as on a full disk, prints no traceback."""

    def _open(self) -> TextIOWrapper:
        return cast(
            TextIOWrapper, open(self.baseFilename, self.mode, encoding=self.encoding, opener=ours)
        )

    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore the error: whatever writes the essential files reports it."""


class RunDir:
    """One run's directory, open for writing.

    While it is open, no other process can write to it. It contains `config.yaml` and
    `overrides.yaml`, and the framework's log goes to `log.txt`. `close(keep=False)` undoes
    everything if the run produced nothing.

    Example:
        >>> run_dir = RunDir(Path("runs/a"), config, ["task=mine"])
        >>> run_dir.close(keep=True)

    Args:
        path: The directory; created if missing. An existing run in it is resumed.
        unique: Create a new, unique directory below `path` instead.
        config: The whole configuration, resolved, as plain values.
        overrides: The overrides of the command line.
        evaluating: The run only reads the weights, so an existing configuration stays unchanged.

    Attributes:
        path: The directory.
        continued: Whether the directory already held a run.

    Raises:
        UserError: The directory cannot be written to, holds something else, is in use, or holds
            a run with another configuration.
    """

    def __init__(
        self,
        path: Path,
        config: Mapping[str, Any],
        overrides: Sequence[str],
        *,
        evaluating: bool = False,
        unique: bool = False,
    ) -> None:
        self.path = path
        self._handler: logging.Handler | None = None
        self._made: list[Path] = []
        self._before: dict[str, bytes | None] = {}
        old = None if unique else check_run(path, config, evaluating)
        self.continued = old is not None
        try:
            with writing(path):
                self._made = make_unique(path) if unique else make_dirs(path)
                self.path = self._made[-1] if unique else path
                for name in FOLDERS:
                    check_directory(self.path / name)
                self._lock()
                for name in (CONFIG, OVERRIDES, "result.json", "inputs.json"):
                    for left in self.path.glob(f".{name}-*"):  # left by a process that was killed
                        left.unlink(missing_ok=True)
                for left in self.path.glob(".predictions.npz-*"):
                    shutil.rmtree(left, ignore_errors=True)
                if not (evaluating and self.continued):
                    self.write(CONFIG, to_yaml(dict(config)))
                    self.write(OVERRIDES, to_yaml(list(overrides)))
        except BaseException:
            self.close(keep=False)
            raise

    @property
    def new(self) -> bool:
        """Whether this object created the directory."""
        return self.path in self._made

    def close(self, keep: bool) -> None:
        """Stop writing. Unless `keep`, undo all writes, down to the directory if it is new."""
        if self._handler:
            _log.removeHandler(self._handler)
            with suppress(OSError):  # a full disk
                self._handler.close()
            self._handler = None
        if keep:
            return
        if self.new:
            shutil.rmtree(self.path, ignore_errors=True)
        else:
            for name, text in self._before.items():
                if text is None:
                    (self.path / name).unlink(missing_ok=True)
                else:
                    with suppress(OSError):
                        self._put(name, text)
        remove_empty(self._made)

    def _lock(self) -> None:
        if not (self.path / LOG).exists():
            self._before[LOG] = None
        handler = _LogFile(self.path / LOG, encoding="utf-8")
        handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
        self._handler = handler
        assert handler.stream is not None
        if not locked(handler.stream.fileno()):
            self._before.clear()
            self._made.clear()
            raise UserError(
                "Another run is writing to this directory",
                where=str(self.path),
                fix="Wait for it to end, or give another run_dir=.",
            )
        _log.addHandler(handler)

    def _read(self, name: str) -> bytes | None:
        try:
            return read_bytes(self.path / name, _MAX_BYTES)
        except FileNotFoundError:
            return None

    def write(self, name: str, text: str) -> None:
        """Write a file atomically; `close` can undo it."""
        self._before.setdefault(name, self._read(name))
        self._put(name, text.encode())

    def _put(self, name: str, text: bytes) -> None:
        with replacing(self.path / name) as file:
            file.write(text)


def check_run(path: Path, config: Mapping[str, Any], evaluating: bool) -> Mapping[str, Any] | None:
    """Return the configuration of the run in a directory, or None if there is no run."""
    if path.exists() and not path.is_dir():
        raise UserError(
            "The run directory is a file", where=str(path), fix="Give another run_dir=."
        )
    try:
        names = [p.name for p in path.iterdir()] if path.exists() else []
    except OSError as error:
        fix = "Make it readable, or give another run_dir=."
        raise UserError(f"Cannot read it: {error.strerror}", where=str(path), fix=fix) from error
    there = {name for name in names if not name.startswith(".")}  # a killed process may leave these
    if there <= {LOG}:
        return None  # Empty, or another run is starting; the lock decides.
    if CONFIG not in there:
        if there & {"checkpoints", "result.json"}:
            return {}
        raise UserError(
            "This directory is not a run directory",
            where=str(path),
            fix="Set run_dir= to a new directory, or to one that holds a run.",
        )
    try:
        loaded = read_yaml(path / CONFIG)
        if not (isinstance(loaded, dict) and loaded):
            raise ValueError("it is empty")
        old: dict[str, Any] = loaded
    except Exception as error:
        raise UserError(
            f"The run's configuration cannot be read: {str(error).splitlines()[0]}",
            where=str(path / CONFIG),
            fix="Delete this file: the run then resumes from its checkpoints with the options that "
            "you give.",
        ) from error
    if old.get("mode") == "lr_find" and not there & {"checkpoints", "result.json"}:
        return None  # only a range test, which a run may follow
    changed = differences(old, config, _MUST_AGREE if evaluating else None)
    if changed:
        raise UserError(
            "The run there was started with another configuration\n"
            + table(["option", "started with", "now"], changed),
            where=str(path),
            fix="Give the same values to resume it, or another run_dir= to start a new run.",
        )
    return old


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], only: Sequence[str] | None = None
) -> list[tuple[str, Any, Any]]:
    """Return the options in which two configurations differ but must agree, with both values.

    All sections count, except for options that may change, unless `only` some do. An option that
    one of them lacks has the value `…` there.
    """
    before, after = flat(old), flat(new)
    # A trainer option that is newer than the run had its default value.
    for name, default in vars(TrainerConfig()).items():
        before.setdefault(f"trainer.{name}", default)
    found = []
    for name in sorted(before.keys() | after.keys()):
        section = name.partition(".")[0]
        names = {section, name, name.rpartition(".")[0]}
        skipped = section not in only if only else not names.isdisjoint(_MAY_DIFFER)
        a, b = before.get(name, "…"), after.get(name, "…")
        if not skipped and not same(a, b, typed=name.removeprefix("trainer.") in _SHARES):
            found.append((name, a, b))
    # trainer.seed follows seed, so a second row would add nothing.
    rows = {row[0]: row[1:] for row in found}
    if "seed" in rows and same(rows["seed"], rows.get("trainer.seed")):
        found = [row for row in found if row[0] != "trainer.seed"]
    return found


def to_yaml(value: Any) -> str:
    """Return plain values as YAML."""
    return str(OmegaConf.to_yaml(OmegaConf.create(value)))


def flat(node: Any, prefix: str = "") -> dict[str, Any]:
    """Return the values of a configuration by full key."""
    if not isinstance(node, Mapping) or not node:
        return {prefix: node} if not isinstance(node, Mapping) else {}
    found: dict[str, Any] = {}
    for name, value in node.items():
        found.update(flat(value, f"{prefix}.{name}" if prefix else str(name)))
    return found
