"""A run of Weights & Biases as the destination of an outbox."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.loggers.journal import Entry, Memory
from framework.loggers.wandb_records import last_values


class WandbRun:
    """A run that starts when the first entries are sent, and has the same id in every process.

    What it is given is certain only once it is finished: its own process writes it in blocks, and
    discards the last ones if it is killed. So it is asked for what its files hold.

    Example:
        >>> run = WandbRun(Path("runs/a"), memory, project="digits", name="a")
        >>> run.send([Entry(1, "metrics", 50, time.time(), {"values": {"train/loss": 2.5}})])
        False
        >>> run.close()

    Args:
        run_dir: The run directory; the files are in `wandb` below it.
        memory: Holds the id of the run.
        **about: `project`, `entity`, `name` and `mode`, as `wandb.init` has them.
    """

    def __init__(self, run_dir: Path, memory: Memory, **about: Any) -> None:
        self._run_dir, self._memory, self._about = run_dir, memory, about
        self._run: Any = None
        self._last = 0
        self._before: dict[str, tuple[int, float]] | None = None
        self._sent_files: list[Path] = []

    def send(self, entries: Sequence[Entry]) -> bool:
        """Give entries to the run; see `Destination.send`."""
        self._start()
        for entry in entries:
            getattr(self, f"send_{entry.kind}")(entry)
        return False

    def recorded(self, names: Collection[str]) -> Mapping[str, tuple[int, float]]:
        """Return what the files of earlier processes hold; see `Destination.recorded`."""
        if self._before is None:
            files = sorted((self._run_dir / "wandb").glob(f"*run-*-{self._id()}/run-*.wandb"))
            self._before = {}
            for path in files:
                for name, (step, value) in last_values(path).items():
                    if step >= self._before.get(name, (-1, 0.0))[0]:
                        self._before[name] = step, value
        return {name: self._before[name] for name in names if name in self._before}

    def close(self) -> None:
        """Finish the run, so that everything has arrived."""
        if self._run is not None:
            status = self._memory.values.get("status")
            self._run.finish(exit_code=1 if status in ("failed", "interrupted") else 0)
            self._run = None
        for path in self._sent_files:
            path.unlink(missing_ok=True)

    # ---- one method for each kind of entry

    def send_metrics(self, entry: Entry) -> None:
        """Give it metrics, with the epoch."""
        values, step = entry.body["values"], entry.step or 0
        if step < self._last:
            self._run.summary.update(values)
        else:
            self._log({**values, "epoch": entry.body["epoch"]}, step)

    def send_params(self, entry: Entry) -> None:
        """Give it hyperparameters."""
        self._run.config.update(entry.body, allow_val_change=True)

    def send_tags(self, entry: Entry) -> None:
        """Give it facts about the run, in its summary."""
        self._run.summary.update(entry.body)

    def send_text(self, entry: Entry) -> None:
        """Give it a text as a file."""
        path = Path(self._run.dir) / f"{entry.body['name'].replace('/', '-')}.txt"
        path.write_text(entry.body["text"])
        self._run.save(str(path), base_path=self._run.dir, policy="now")

    def send_file(self, entry: Entry) -> None:
        """Give it a copy of a file."""
        path = Path(entry.body["path"])
        if path.is_file():
            copy = shutil.copy(path, self._run.dir)
            self._run.save(copy, base_path=self._run.dir, policy="now")

    def send_image(self, entry: Entry) -> None:
        """Give it an image."""
        import wandb

        path, name = Path(entry.body["path"]), self._part(entry)
        if path.is_file() and self._is_new(name, entry):
            self._log({name: wandb.Image(str(path))}, entry.step or 0)
            self._sent_files.append(path)

    def send_histogram(self, entry: Entry) -> None:
        """Give it a distribution."""
        import wandb

        if self._is_new(entry.body["name"], entry):
            counts, edges = entry.body["counts"], entry.body["edges"]
            shown = wandb.Histogram(np_histogram=(counts, edges))
            self._log({entry.body["name"]: shown}, entry.step or 0)

    def send_status(self, entry: Entry) -> None:
        """Do nothing: the run shows it by whether and how it was finished."""

    # ---- the rest

    def _start(self) -> None:
        if self._run is not None:
            return
        self.recorded(())  # before there is a file of this process
        _quiet()
        import wandb

        place = self._run_dir / "wandb"
        # The directory has the second in its name; another of the same second would be overwritten.
        while list(place.glob(f"*run-{time.strftime('%Y%m%d_%H%M%S')}-{self._id()}")):
            time.sleep(0.1)
        settings = wandb.Settings(
            silent=True, console="off", x_disable_stats=True, disable_code=True, init_timeout=20
        )
        hooks = sys.exit, sys.excepthook
        try:
            self._run = wandb.init(
                dir=str(self._run_dir),
                id=self._id(),
                resume="allow",
                settings=settings,
                **self._about,
            )
        finally:
            sys.exit, sys.excepthook = hooks  # wandb would report errors a second time

    def _id(self) -> str:
        if "run_id" not in self._memory.values:
            self._memory.update(run_id=uuid.uuid4().hex[:12])
        return str(self._memory.values["run_id"])

    def _log(self, values: Mapping[str, Any], step: int) -> None:
        if step >= self._last:  # it has no place for an earlier step
            self._run.log(dict(values), step=step)
            self._last = step

    def _is_new(self, name: str, entry: Entry) -> bool:
        last = self.recorded([name]).get(name)
        return last is None or (entry.step or 0) > last[0]

    def _part(self, entry: Entry) -> str:
        number = entry.body["number"]
        return str(entry.body["name"]) + (f"/{number}" if number else "")


def _quiet() -> None:
    """Keep wandb from writing to the terminal."""
    os.environ.setdefault("WANDB_SILENT", "true")
    logging.getLogger("wandb").setLevel(logging.ERROR)
