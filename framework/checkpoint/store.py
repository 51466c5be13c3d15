"""Checkpoints on disk: arrays and JSON, checksummed, written aside and renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from framework.checkpoint.state import State
from framework.errors import UserError

FORMAT = 1
_ARRAYS, _STATE, _MANIFEST = "arrays.npz", "state.json", "manifest.json"


class CheckpointStore:
    """The checkpoints of one run: directories named by their step.

        checkpoints/step-00001563/arrays.npz      every array, no pickle
                                  state.json      everything else, and where the arrays go
                                  manifest.json   format, step, SHA-256 of both; written last
        checkpoints/best.json                     which one is best, and by what

    Example:
        >>> store = CheckpointStore(Path("runs/a/checkpoints"))
        >>> store.save(100, {"weights": np.zeros(3), "epoch": 1})
        >>> store.load(store.find("last"))["epoch"]
        1

    Args:
        directory: Where they are; made when the first one is saved.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(self, step: int, state: State) -> Path:
        """Write a checkpoint whole or not at all.

        Args:
            step: Optimizer steps done; the name.
            state: A tree of dicts, JSON values and arrays.

        Returns:
            Its directory.
        """
        target = self.directory / f"step-{step:08d}"
        aside = self.directory / f".{target.name}-{os.getpid()}"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            arrays: dict[str, np.ndarray[Any, Any]] = {}
            tree = _split(state, arrays, "")
            with open(aside / _ARRAYS, "wb") as file:
                plain: dict[str, Any] = {name: _plain(array) for name, array in arrays.items()}
                np.savez(file, **plain)
            (aside / _STATE).write_text(json.dumps(tree, indent=1))
            sums = {name: _sha256(aside / name) for name in (_ARRAYS, _STATE)}
            manifest = {"format": FORMAT, "step": step, "sha256": sums}
            (aside / _MANIFEST).write_text(json.dumps(manifest, indent=1))
            for path in (*aside.iterdir(), aside):
                _fsync(path)
            shutil.rmtree(target, ignore_errors=True)
            os.replace(aside, target)
            _fsync(self.directory)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return target

    def load(self, path: Path) -> State:
        """Read a checkpoint, having checked it.

        Raises:
            UserError: It is not there, is damaged, or is of a format this version cannot read.
        """
        try:
            manifest = json.loads((path / _MANIFEST).read_text())
            if manifest["format"] != FORMAT:
                raise UserError(
                    f"checkpoint format {manifest['format']} is not known to this version",
                    where=str(path),
                    fix=f"Use the version that wrote it; this one reads format {FORMAT}.",
                )
            for name, expected in manifest["sha256"].items():
                if _sha256(path / name) != expected:
                    raise ValueError(f"{name} does not match its checksum")
            tree = json.loads((path / _STATE).read_text())
            with np.load(path / _ARRAYS, allow_pickle=False) as arrays:
                state: State = _join(tree, arrays)
                return state
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"the checkpoint cannot be read: {error}",
                where=str(path),
                fix="Choose another one: checkpoint=last, or the path of a step-… directory.",
            ) from error

    def steps(self) -> list[int]:
        """Return the steps of all whole checkpoints, ascending."""
        names = self.directory.glob("step-*/" + _MANIFEST)
        return sorted(int(p.parent.name.removeprefix("step-")) for p in names)

    def path(self, step: int) -> Path:
        """Return the directory of a step's checkpoint."""
        return self.directory / f"step-{step:08d}"

    def find(self, which: str) -> Path:
        """Return the checkpoint that a word means.

        Args:
            which: `last`, `best`, a step number, or the path of a checkpoint; or that of a run,
                which means its best one, else its last.

        Raises:
            UserError: There is none.
        """
        steps = self.steps()
        best = self.best()
        if which == "last" and steps:
            return self.path(steps[-1])
        if which == "best" and best and best["step"] in steps:
            return self.path(best["step"])
        if which.isdigit() and int(which) in steps:
            return self.path(int(which))
        if which not in ("last", "best") and (Path(which) / _MANIFEST).exists():
            return Path(which)
        run = CheckpointStore(Path(which) / "checkpoints")
        if which not in ("last", "best") and run.steps():
            return run.favourite()
        there = ", ".join(map(str, steps)) or "none"
        raise UserError(
            f"there is no checkpoint {which!r}",
            where=str(self.directory.resolve()) if steps else f"checkpoint={which}",
            fix=f"Steps there: {there}. Give last, best, one of these steps, or the path of a "
            "step-… directory or of a run.",
        )

    def favourite(self) -> Path:
        """Return the best checkpoint, or the last where none is best."""
        return self.find("best" if (self.best() or {}).get("step") in self.steps() else "last")

    def best(self) -> dict[str, Any] | None:
        """Return which checkpoint is best: its step, metric and value."""
        try:
            best: dict[str, Any] = json.loads((self.directory / "best.json").read_text())
            return best
        except (OSError, ValueError):
            return None

    def mark_best(self, step: int, metric: str, value: float) -> None:
        """Record that the checkpoint of `step` is the best so far."""
        aside = self.directory / f".best-{os.getpid()}.json"
        try:
            aside.write_text(json.dumps({"step": step, "metric": metric, "value": value}))
            _fsync(aside)
            os.replace(aside, self.directory / "best.json")
        finally:
            aside.unlink(missing_ok=True)

    def keep(self, steps: set[int]) -> None:
        """Delete every checkpoint of another step."""
        for step in set(self.steps()) - steps:
            shutil.rmtree(self.path(step), ignore_errors=True)


def _split(tree: Any, arrays: dict[str, np.ndarray[Any, Any]], path: str) -> Any:
    if isinstance(tree, dict):
        return {key: _split(value, arrays, f"{path}/{key}") for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_split(value, arrays, f"{path}/{i}") for i, value in enumerate(tree)]
    if isinstance(tree, (np.ndarray, np.generic)):
        name = f"{len(arrays):05d}"
        arrays[name] = np.asarray(tree)
        return {"$array": name, "dtype": str(arrays[name].dtype)}
    return tree


def _join(tree: Any, arrays: Any) -> Any:
    if isinstance(tree, dict):
        if "$array" in tree:
            array = arrays[tree["$array"]]
            return array if str(array.dtype) == tree["dtype"] else array.view(_dtype(tree["dtype"]))
        return {key: _join(value, arrays) for key, value in tree.items()}
    return [_join(value, arrays) for value in tree] if isinstance(tree, list) else tree


def _plain(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    # NumPy's format does not know bfloat16 and its like: store the bits.
    return array if array.dtype.kind in "biufc" else array.view(f"u{array.itemsize}")


def _dtype(name: str) -> Any:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name))


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "sha256").hexdigest()
            if hasattr(hashlib, "file_digest")
            else hashlib.sha256(file.read()).hexdigest()
        )


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
