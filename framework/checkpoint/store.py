"""Checkpoints on disk: written aside, synced, renamed; never loaded unless every byte is right."""

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
from framework.checkpoint.retention import Retention
from framework.checkpoint.tree import ARRAYS, TREE, read_tree, sha256_of, sync, write_tree
from framework.core.files import NotAFile, check_directory, ours, read_bytes
from framework.core.paths import local_path
from framework.core.state import State
from framework.errors import UserError

Fits = Callable[[State], None]

_MOST = 2**20  # bytes of a manifest

_log = logging.getLogger("framework")


class CheckpointStore:
    """The checkpoints of one run: directories named by their step.

        checkpoints/step-00001563/arrays.npz      every array, no pickle
                                  state.json      everything else, and where the arrays go
                                  manifest.json   written last: format, step, the metric that it
                                                  was judged by, a SHA-256 of each file and of
                                                  the manifest itself

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

    def save(
        self,
        step: int,
        state: State,
        *,
        judged: dict[str, Any] | None = None,
        permanent: bool = False,
    ) -> Path:
        """Write a checkpoint whole or not at all.

        Args:
            step: Optimizer steps done; the name.
            state: A tree of dicts, JSON values and arrays.
            judged: The metric, its value at this very step, and its mode: what `best` goes by.
            permanent: Never delete it in favour of later ones.

        Returns:
            Its directory.

        Raises:
            OSError: It cannot be written; what was there before still is.
            UserError: The run directory is gone, or the state holds what no file can.
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
                # From here on `recover` finds it aside, however far this comes.
                _delete(target)
            os.replace(aside, target)
            sync(self.directory)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        return target

    def load(self, path: Path, fits: Fits | None = None) -> State:
        """Read a checkpoint, having checked every byte of it.

        Args:
            path: Where it is.
            fits: Refuses a state whose arrays have wrong shapes, before memory is taken for them.

        Raises:
            UserError: It is not there, is damaged, or is of a format that this version cannot read.
        """
        try:
            self._check(path)
            return self._load(path, fits)
        except UserError:
            raise
        except Exception as error:  # whatever somebody, or a disk, has made of it
            raise UserError(
                f"the checkpoint cannot be read: {reason(error)}",
                where=str(path),
                fix="Choose another one: checkpoint=last, or the path of a step-… directory.",
            ) from error

    def newest(self) -> Path | None:
        """Return the newest checkpoint that is whole; see `load_newest`."""
        found = self._newest(lambda path: {})
        return None if found is None else found[0]

    def load_newest(self, fits: Fits | None = None) -> tuple[Path, State] | None:
        """Read the newest checkpoint that is whole, saying which newer ones are not.

        Args:
            fits: As in `load`.

        Returns:
            Where it is, and what it holds; None if there are no checkpoints at all.

        Raises:
            UserError: There are some, and none is whole; or the newest is of an unknown format.
        """
        return self._newest(lambda path: self._load(path, fits))

    def _newest(self, read: Callable[[Path], State]) -> tuple[Path, State] | None:
        damaged = []
        for step in sorted(self._numbered("step-*"), reverse=True):
            path = self.path(step)
            try:
                manifest = self._check(path)
                if manifest["step"] != step:
                    raise ValueError(f"it is that of step {manifest['step']}, under another name")
                state = read(path)
            except UserError:
                raise
            except Exception as error:
                damaged.append(reason(error))
                _log.warning("%s is not whole: %s", path, damaged[-1])
                continue
            if damaged:
                _log.warning("falling back to the newest whole checkpoint, %s", path)
            return path, state
        if damaged:
            raise UserError(
                f"none of the run's checkpoints is whole; of the newest, {damaged[0]}",
                where=str(self.directory.resolve()),
                fix="Restore one from a copy, or begin anew in another run_dir=.",
            )
        return None

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints that were written to their end, ascending."""
        found = self._numbered("step-*")
        return sorted(step for step in found if (self.path(step) / MANIFEST).exists())

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
            fix=f"Steps there: {there}. Give last, best, one of these steps, or the path of a "
            "step-… directory or of a run.",
        )

    def favourite(self) -> Path:
        """Return the best checkpoint, or the last where none is best."""
        return self.find("best" if self.best() else "last")

    def best(self) -> dict[str, Any] | None:
        """Return which checkpoint is best: its step, metric and value.

        Of several metrics that checkpoints were judged by, that of the newest counts.
        """
        manifests = [m for m in self._manifests() if m.get("judged")]
        if not manifests:
            return None
        newest = manifests[-1]["judged"]
        alike = [m for m in manifests if m["judged"]["metric"] == newest["metric"]]
        sign = 1 if newest["mode"] == "max" else -1
        found = max(alike, key=lambda m: (sign * m["judged"]["value"], -m["step"]))
        metric, value = found["judged"]["metric"], found["judged"]["value"]
        return {"step": found["step"], "metric": metric, "value": value}

    def tidy(self, retention: Retention, step: int) -> None:
        """Delete what need not be kept, now that the checkpoint of a step is there.

        Args:
            retention: What to keep.
            step: Where the run stands: what lies beyond belongs to a past that was taken back.
        """
        manifests = {m["step"]: m for m in self._manifests()}
        kept = retention.kept([m for m in manifests.values() if m["step"] <= step])
        for other in manifests.keys() - kept:  # not what is damaged or of a later version
            _delete(self.path(other))

    def take_back(self, step: int) -> None:
        """Delete the checkpoints of a past that is taken back: those beyond a step."""
        for other in self._numbered("step-*"):
            if other > step:
                _delete(self.path(other))

    def check_directory(self) -> None:
        """Make the directory if it is missing; the run's own must be there."""
        try:
            check_directory(self.directory)
        except NotAFile as error:
            raise UserError(
                f"{error.strerror}: this is where checkpoints go",
                where=str(self.directory),
                fix="Move it away, or give another run_dir=.",
            ) from None
        try:
            self.directory.mkdir(exist_ok=True)
        except FileNotFoundError:
            raise UserError(
                "the run directory is gone",
                where=str(self.directory.parent),
                fix="It was deleted or moved while the run wrote to it; give the same command "
                "again once it is back, or another run_dir=.",
            ) from None

    def recover(self) -> None:
        """Put in its place what killed processes have written whole, and delete the rest.

        Only for who holds the run. A checkpoint that takes the place of another one of its step is
        aside for a moment in which the other one is gone already.
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
        """Return the directories that are named by a step, by it."""
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
        """Return a checkpoint's manifest, having compared every byte with it."""
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
            with suppress(Exception):  # loading it says what is wrong
                found.append(self._manifest(self.path(step)))
        return found

    def _manifest(self, path: Path) -> dict[str, Any]:
        """Return a manifest that is as it was written."""
        text = read_bytes(path / MANIFEST, _MOST).decode()
        manifest = json.loads(text)
        if not isinstance(manifest, dict) or "format" not in manifest:
            raise ValueError(f"{MANIFEST} is damaged")
        if type(manifest["format"]) is not int:
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


def _delete(path: Path) -> None:
    # Out of sight first: however far deleting comes, it is no checkpoint, and `recover` finds it.
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
