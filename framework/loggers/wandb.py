"""Sends a run to Weights & Biases."""

from __future__ import annotations

import os

from framework.errors import UserError, choice
from framework.loggers.destination import Destination
from framework.loggers.journal import Memory
from framework.loggers.tracker import TrackerLogger
from framework.loggers.wandb_run import WandbRun

_MODES = ("offline", "online")


class WandbLogger(TrackerLogger):
    """Send the configuration, metrics, images, histograms and files to Weights & Biases.

    A run directory is one run, with one id, however often it is stopped and continued. Values after
    the last checkpoint are sent once the next one is on the disk, because the tracker cannot drop
    them if the run is continued. It takes no step that is lower than its last one; an evaluation of
    an earlier checkpoint is in its summary.

    In the mode `offline` everything is in `wandb/` below the run directory, in one directory for
    each time that the run was started. `wandb sync <run directory>/wandb/offline-run-*` uploads
    them, in order.

    Example:
        >>> logger = WandbLogger(project="digits")
        >>> Trainer(run_dir="runs/a", loggers=[logger], max_epochs=3).fit(task)

    Args:
        project: The name of the project.
        entity: The user or team. Default: that of the API key.
        run_name: The name of the run. Default: that of the run directory.
        mode: `offline` or `online`. Default: the environment variable `WANDB_MODE`, else `online`
            if `WANDB_API_KEY` is set, else `offline`.
        timeout: Seconds for which the end of a stage waits for what is not sent yet.

    Raises:
        UserError: wandb is not installed, or there is no such mode.
    """

    name, title = "wandb", "W&B"

    def __init__(
        self,
        project: str = "keras-task-framework",
        entity: str | None = None,
        run_name: str | None = None,
        mode: str | None = None,
        timeout: float = 10.0,
    ) -> None:
        super().__init__(timeout)
        key = os.environ.get("WANDB_API_KEY")
        self.mode = mode or os.environ.get("WANDB_MODE") or ("online" if key else "offline")
        if self.mode not in _MODES:
            raise UserError(
                f"there is no mode {self.mode!r}",
                where="WandbLogger(mode=...)",
                fix=choice(self.mode, _MODES),
            )
        self.project, self.entity, self.run_name = project, entity, run_name

    def connect(self, memory: Memory) -> Destination:
        """Return the run; it starts when something is sent."""
        place = self._run_dir.absolute()
        about = {"project": self.project, "entity": self.entity, "mode": self.mode}
        return WandbRun(place, memory, **about, name=self.run_name or place.name)
