"""What loggers share that send to a tracker: a service that compares runs."""

from __future__ import annotations

import json
import logging
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.core.commit import commit_of
from framework.core.extras import require
from framework.core.safe_files import ours, read_bytes
from framework.core.statuses import ENDED
from framework.core.versions import versions
from framework.errors import UserError
from framework.logger import Histogram, Logger
from framework.loggers.destination import Destination
from framework.loggers.journal import Memory
from framework.loggers.outbox import Outbox
from framework.loggers.png import as_pixels, png

_log = logging.getLogger("framework")
_MOST = 2**24  # bytes of a result


class TrackerLogger(Logger):
    """A logger that sends what a run logs to a tracker, from a thread of its own.

    The run never waits for the tracker: what it logs is kept in `trackers/<name>` below the run
    directory until the tracker has it; see `Outbox`. A subclass says where to send it.

    Example:
        >>> class Mine(TrackerLogger):
        ...     name, title = "mine", "My tracker"
        ...     def connect(self, memory):
        ...         return MyDestination(memory)

    Args:
        timeout: Seconds for which the end of a stage waits for what is not sent yet.

    Attributes:
        name: The name of the package, of its extra, and of its directory.
        title: The tracker's name, for messages.
    """

    name = ""
    title = ""

    def __init__(self, timeout: float) -> None:
        if not timeout >= 0:
            raise UserError(
                f"timeout is {timeout}",
                where=f"{type(self).__name__}(timeout=...)",
                fix="Give a number of seconds: 0 or more.",
            )
        require(self.name, self.name, what=type(self).__name__, where=f"loggers={self.name}")
        self.timeout = timeout
        self._run_dir = Path()
        self._outbox: Outbox | None = None
        self._former: Outbox | None = None
        self._trains = self._complete = False

    @abstractmethod
    def connect(self, memory: Memory) -> Destination:
        """Return where to send to; the sending thread calls it, once a stage."""

    def open(self, run_dir: Path, step: int | None) -> None:
        """Start sending, without what an earlier process logged after `step`.

        Args:
            run_dir: The run's directory.
            step: Optimizer steps done so far: 0 for a new run. None: keep everything.
        """
        self.close()
        self._run_dir, self._trains, self._complete = Path(run_dir), False, step is None
        place = self._run_dir / "trackers" / self.name
        self._outbox = Outbox(place, self.title, self.connect, after=self._former)
        self._outbox.open(step)

    def log_config(self, config: Mapping[str, Any], hparams: Mapping[str, Any]) -> None:
        """Record the hyperparameters, the versions of the software, and the commit."""
        self._trains = True
        if not self._complete:
            self._set_status("running")
        self._add("params", dict(hparams))
        about = {f"version.{name}": version for name, version in versions().items()}
        task = config.get("task")
        if isinstance(task, Mapping) and "_target_" in task:
            about["task"] = str(task["_target_"]).rpartition(".")[2]
        if (commit := commit_of(Path.cwd())) is not None:
            about["git.commit"] = commit
        self._add("tags", about)

    def log_metrics(self, metrics: Mapping[str, float], step: int, epoch: int) -> None:
        """Record values measured at `step`."""
        values = {name: float(value) for name, value in metrics.items()}
        self._add("metrics", {"values": values, "epoch": epoch}, step)

    def log_text(self, name: str, text: str, step: int) -> None:
        """Record a text; a later one of the same name replaces it."""
        self._add("text", {"name": name, "text": text})

    def log_images(self, name: str, images: Any, step: int) -> None:
        """Record images as PNG.

        Raises:
            UserError: If `images` is not an array of images.
        """
        for number, pixels in enumerate(as_pixels(name, images)):
            path = self._file(f"{name.replace('/', '-')}-{step:08d}-{number}.png")
            with open(path, "wb", opener=ours) as file:
                file.write(png(pixels))
            self._add("image", {"name": name, "number": number, "path": str(path)}, step)

    def log_histograms(self, histograms: Mapping[str, Histogram], step: int) -> None:
        """Record distributions, if the tracker can show them."""
        for name, each in histograms.items():
            body = {"counts": each.counts.tolist(), "edges": each.edges.tolist()}
            self._add("histogram", {"name": name, **body}, step)

    def log_artifact(self, path: Path) -> None:
        """Record a file under its name."""
        self._add("file", {"path": str(Path(path).absolute())})

    def mark_durable(self, step: int) -> None:
        """Send what was logged up to `step`."""
        if self._outbox is not None:
            self._outbox.release(step)

    def forget(self, stage: str) -> None:
        """Drop the values of a stage that are not sent yet; others stay beside the new ones."""
        if self._outbox is not None:
            self._outbox.forget(stage)

    def log_end(
        self, status: str, metrics: Mapping[str, float], best: Mapping[str, Any] | None
    ) -> None:
        """Record how the stage ended, and the files of the run directory that tell of it."""
        if self._outbox is None:
            return
        if status in ENDED:
            self._outbox.release(None)
        for path in (self._run_dir / "config.yaml", self._run_dir / "result.json"):
            if path.exists():
                self.log_artifact(path)
        if self._trains:
            about = _result(self._run_dir / "result.json")
            told: list[str] = ["task", "stop_reason"]
            tags = {key: str(about[key]) for key in told if key in about}
            if best is not None:
                tags["best"] = f"{best['metric']} {best['value']:.6g} at step {best['step']}"
            self._add("tags", tags)
            self._set_status(status)

    def close(self) -> None:
        """Wait for what is not sent yet, for `timeout` seconds. It is safe to call this twice."""
        if self._outbox is not None:
            outbox, self._outbox = self._outbox, None
            done = outbox.close(self.timeout)
            self._former = None if done else outbox

    def _add(self, kind: str, body: Mapping[str, Any], step: int | None = None) -> None:
        if self._outbox is None:
            raise RuntimeError(f"{type(self).__name__} is not open")
        self._outbox.add(kind, body, step)

    def _file(self, name: str) -> Path:
        """Return a place for a file until it is sent."""
        files = self._run_dir / "trackers" / self.name / "files"
        files.mkdir(exist_ok=True)
        return files / name

    def _set_status(self, status: str) -> None:
        assert self._outbox is not None
        if self._outbox.memory.values.get("status") != status or status == "running":
            self._add("status", {"status": status})
            self._outbox.memory.update(status=status)


def _result(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_bytes(path, _MOST))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
