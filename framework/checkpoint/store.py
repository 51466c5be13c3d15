"""Checkpoints on disk: written to a temporary directory, renamed, and verified when loaded."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from framework.checkpoint.manifest import FORMAT, MANIFEST, reason, signed, well_formed
from framework.checkpoint.retention import Retention, alike, best_first
from framework.checkpoint.tree import ARRAYS, TREE, read_tree, sha256_of, sync, write_tree
from framework.core.paths import local_path
from framework.core.safe_files import NotAFile, check_directory, ours, read_bytes
from framework.core.state import State
from framework.errors import UserError

Fits = Callable[[State], None]

_MOST = 2**20  # bytes of a manifest

_log = logging.getLogger("framework")


class CheckpointStore:
    """The checkpoints of one run, in directories named after their step.

        checkpoints/step-00001563/arrays.npz      every array, no pickle
                                  state.json      everything else, and where the arrays go
                                  manifest.json   written last: format, step, the value of the
                                                  monitored metric, a SHA-256 of each file and of
                                                  the manifest itself

    Example:
        >>> store = CheckpointStore(Path("runs/a/checkpoints"))
        >>> store.save(100, {"weights": np.zeros(3), "epoch": 1})
        >>> store.load(store.find("last"))["epoch"]
        1

    Args:
        directory: Directory of the checkpoints; created by the first save.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def save(
        self,
        step: int,
        state: State,
        *,
        judged: dict[str, Any] | None = None,
        permanent: bool = False,
    ) -> Path:
        """Write a checkpoint atomically.

        Args:
            step: Optimizer steps done, which names the directory.
            state: A tree of dicts, JSON values and arrays.
            judged: The metric, its value at this step, and its mode; `best` compares these.
            permanent: Never delete this checkpoint in favor of later ones.

        Returns:
            Directory of the checkpoint.

        Raises:
            OSError: If it cannot be written; existing checkpoints are not changed.
            UserError: If the run directory is missing, or the state has an unsupported value.
        """
        target = self.path(step)
        aside = self.directory / f".{target.name}-{os.getpid()}"
        self.check_directory()
        shutil.rmtree(aside, ignore_errors=True)
        try:
            aside.mkdir()
            files = write_tree(aside, state)
            manifest = {"format": FORMAT, "step": step, "judged": judged, "permanent": permanent}
            with open(aside / MANIFEST, "w", opener=ours) as file:
                file.write(signed(manifest | {"files": files}))
            sync(aside / MANIFEST)
            sync(aside)
            if target.exists():
                # If the process is killed from here on, `recover` completes the save.
                _delete(target)
            os.replace(aside, target)
            sync(self.directory)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return target

    def load(self, path: Path, fits: Fits | None = None) -> State:
        """Verify every byte of a checkpoint, and read it.

        Args:
            path: Directory of the checkpoint.
            fits: Raises if arrays have wrong shapes, before memory is allocated for them.

        Raises:
            UserError: If it is missing, damaged, or in a format that this version cannot read.
        """
        try:
            self._check(path)
            return self._load(path, fits)
        except UserError:
            raise
        except Exception as error:  # damaged content may raise anything
            raise UserError(
                f"the checkpoint cannot be read: {reason(error)}",
                where=str(path),
                fix="Choose another one: checkpoint=last, or the path of a step-… directory.",
            ) from error

    def newest(self) -> Path | None:
        """Return the newest checkpoint that is not damaged; see `load_newest`."""
        found = self._newest(lambda path: {})
        return None if found is None else found[0]

    def load_newest(self, fits: Fits | None = None) -> tuple[Path, State] | None:
        """Read the newest checkpoint that is not damaged; warn about damaged newer ones.

        Returns:
            Its directory and its state, or None if there are no checkpoints.

        Raises:
            UserError: If all checkpoints are damaged, or the newest has an unknown format.
        """
        return self._newest(lambda path: self._load(path, fits))

    def _newest(self, read: Callable[[Path], State]) -> tuple[Path, State] | None:
        damaged = []
        for step in sorted(self._numbered("step-*"), reverse=True):
            path = self.path(step)
            try:
                manifest = self._check(path)
                if manifest["step"] != step:
                    raise ValueError(f"its manifest is that of step {manifest['step']}")
                state = read(path)
            except UserError:
                raise
            except Exception as error:
                damaged.append(reason(error))
                _log.warning("%s is damaged: %s", path, damaged[-1])
                continue
            if damaged:
                _log.warning("falling back to the newest undamaged checkpoint, %s", path)
            return path, state
        if damaged:
            raise UserError(
                f"all checkpoints of the run are damaged; the newest: {damaged[0]}",
                where=str(self.directory.resolve()),
                fix="Restore one from a backup, or start again in another run_dir=.",
            )
        return None

    def steps(self) -> list[int]:
        """Return the steps of all complete checkpoints, ascending."""
        return sorted(s for s in self._numbered("step-*") if (self.path(s) / MANIFEST).exists())

    def path(self, step: int) -> Path:
        """Return the directory of a step's checkpoint."""
        return self.directory / f"step-{step:08d}"

    def find(self, which: str) -> Path:
        """Return the path of a checkpoint by name.

        Args:
            which: `last`, `best`, a step number, the path of a checkpoint, or the path of a run,
                for its best checkpoint, else its last.

        Raises:
            UserError: If there is no such checkpoint.
        """
        which = str(which)
        steps = self.steps()
        best = self.best()
        if which == "last" and (newest := self.newest()):
            return newest
        if which == "best" and best:
            return self.path(best["step"])
        if which.isdigit() and int(which) in steps:
            return self.path(int(which))
        path = local_path(which, "checkpoint")
        if which not in ("last", "best") and (path / MANIFEST).exists():
            return path
        run = CheckpointStore(path / "checkpoints")
        if which not in ("last", "best") and run.steps():
            return run.favourite()
        there = ", ".join(map(str, steps)) or "none"
        raise UserError(
            f"there is no checkpoint {which!r}",
            where=str(self.directory.resolve()) if steps else f"checkpoint={which}",
            fix=f"Saved steps: {there}. Give last, best, one of these steps, or the path of a "
            "step-… directory or of a run.",
        )

    def favourite(self) -> Path:
        """Return the best checkpoint, or the last if no checkpoint has a metric."""
        return self.find("best" if self.best() else "last")

    def best(self) -> dict[str, Any] | None:
        """Return the step, metric and value of the best checkpoint.

        If checkpoints have different metrics, only those with the newest's metric are compared.
        """
        manifests = [m for m in self._manifests() if m["judged"]]
        if not manifests:
            return None
        newest, values = manifests[-1]["judged"], alike(manifests)
        step = best_first(values, newest["mode"])[0]
        return {"step": step, "metric": newest["metric"], "value": values[step]}

    def tidy(self, retention: Retention, step: int) -> None:
        """Delete checkpoints that are not kept, and those after `step`, of before a rewind."""
        manifests = {m["step"]: m for m in self._manifests()}
        kept = retention.kept([m for m in manifests.values() if m["step"] <= step])
        for other in manifests.keys() - kept:  # never damaged ones, or those of a later version
            _delete(self.path(other))

    def take_back(self, step: int) -> None:
        """Delete all checkpoints after a step, when a run restarts from that step."""
        for other in self._numbered("step-*"):
            if other > step:
                _delete(self.path(other))

    def check_directory(self) -> None:
        """Create the directory if it is missing; the run directory must exist."""
        try:
            check_directory(self.directory)
        except NotAFile as error:
            raise UserError(
                f"{error.strerror}: checkpoints are saved here",
                where=str(self.directory),
                fix="Move it away, or give another run_dir=.",
            ) from None
        try:
            self.directory.mkdir(exist_ok=True)
        except FileNotFoundError:
            raise UserError(
                "the run directory no longer exists",
                where=str(self.directory.parent),
                fix="It was deleted or moved during the run. Restore it and run the same command "
                "again, or give another run_dir=.",
            ) from None

    def recover(self) -> None:
        """Move complete checkpoints of killed processes into place, and delete incomplete ones.

        Call this only while holding the run's lock. A save that replaces a checkpoint of the same
        step deletes the old one first; if it is killed then, only the temporary copy exists.
        """
        for step, asides in self._numbered(".step-*-*").items():
            for aside in asides:
                with suppress(Exception):
                    self._check(aside)
                    if step not in self.steps():
                        shutil.rmtree(self.path(step), ignore_errors=True)
                        os.replace(aside, self.path(step))
                shutil.rmtree(aside, ignore_errors=True)
        for left in self.directory.glob(".deleted-*"):
            _remove(left)

    def _numbered(self, pattern: str) -> dict[int, list[Path]]:
        """Return the directories named after a step, by step."""
        found: dict[int, list[Path]] = {}
        for path in self.directory.glob(pattern):
            step = path.name.lstrip(".").split("-")[1:2]
            whole = path.name.startswith(".") or path.name == f"step-{step[0]}"
            if whole and step[0].isdecimal():
                found.setdefault(int(step[0]), []).append(path)
        return found

    def _load(self, path: Path, fits: Fits | None) -> State:
        if fits is not None:
            fits(read_tree(path, shapes_only=True))
        return read_tree(path)

    def _check(self, path: Path) -> dict[str, Any]:
        """Verify every byte of a checkpoint, and return its manifest."""
        check_directory(path)
        manifest = self._manifest(path)
        if not {ARRAYS, TREE} <= manifest["files"].keys():
            raise ValueError(f"{MANIFEST} does not name its files")
        for name in (ARRAYS, TREE):  # nothing else is read
            if sha256_of(path / name) != manifest["files"][name]:
                raise ValueError(f"{name} does not match its checksum")
        return manifest

    def _manifests(self) -> list[dict[str, Any]]:
        found = []
        for step in self.steps():
            with suppress(Exception):  # loading it reports the problem
                found.append(self._manifest(self.path(step)))
        return found

    def _manifest(self, path: Path) -> dict[str, Any]:
        """Read a manifest and verify its checksum."""
        text = read_bytes(path / MANIFEST, _MOST).decode()
        manifest = json.loads(text)
        if not isinstance(manifest, dict) or type(manifest.get("format")) is not int:
            raise ValueError(f"{MANIFEST} is damaged")
        if manifest["format"] != FORMAT:
            raise UserError(
                f"the checkpoint has format {manifest['format']}, and this version reads {FORMAT}",
                where=str(path),
                fix="Use the version that wrote it, or start again in another run_dir=.",
            )
        manifest.pop("sha256", None)
        if text != signed(manifest):
            raise ValueError(f"{MANIFEST} does not match its checksum")
        return well_formed(manifest)


class KeepsNothing(CheckpointStore):
    """The store of a process that only reads checkpoints, if there are any: it writes none."""

    def save(self, step: int, state: State, **about: Any) -> Path:
        """Do nothing."""
        return self.path(step)

    def tidy(self, retention: Retention, step: int) -> None:
        """Do nothing."""

    def take_back(self, step: int) -> None:
        """Do nothing."""

    def recover(self) -> None:
        """Do nothing."""


def _delete(path: Path) -> None:
    # Rename it first: a partly deleted directory is then not a checkpoint, and `recover` finds it.
    gone = path.with_name(f".deleted-{path.name}-{os.getpid()}")
    try:
        os.rename(path, gone)
    except OSError:
        gone = path
        (path / MANIFEST).unlink(missing_ok=True)
    _remove(gone)


def _remove(path: Path) -> None:
    if path.is_symlink():
        path.unlink()
    shutil.rmtree(path, ignore_errors=True)
