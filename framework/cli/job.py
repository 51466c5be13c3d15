"""A job, and the outcome of running it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.cli.env_references import References
from framework.cli.quoting import key_of
from framework.core.paths import local_path
from framework.core.slurm import directory_name


@dataclass(frozen=True)
class Job:
    """A job to run.

    Attributes:
        config: The configuration, resolved, as plain values.
        task: The task's name in the configuration.
        overrides: The overrides of the command line.
        run_dir: The run directory, unless the configuration sets it. None:
            `runs/<task>/<time>-<random>`, or in a batch job of SLURM
            `runs/<task>/slurm-<job>-<of the command>`.
        references: The parts of the configuration that refer to the environment.
        command: The words of the command line, for messages that repeat it; empty in a sweep.
        verbose: Whether to show tracebacks.
        callbacks: Those of a sweep, besides the configuration's.
    """

    config: Mapping[str, Any]
    task: str
    overrides: Sequence[str] = ()
    run_dir: Path | None = None
    references: References = field(default_factory=References)
    command: Sequence[str] = ()
    verbose: bool = False
    callbacks: Sequence[Any] = ()

    @property
    def written(self) -> dict[str, Any]:
        """The configuration for files: references to the environment instead of their values."""
        return self.references.put_into(self.config)

    def chosen(self) -> Collection[str]:
        """Return the sections that the overrides set."""
        return {key_of(o).partition("@")[0].partition(".")[0] for o in self.overrides}

    def place(self) -> Path | None:
        """Return the run directory, if it is requested or is that of a batch job of SLURM."""
        given = self.config["run_dir"] or self.run_dir
        if given:
            return local_path(given, "run_dir")
        if self.config["mode"] != "fit":
            return None
        together = self.config["trainer"]["strategy"] == "multi_worker"
        name = directory_name(os.environ, self.command, together=together)
        return Path("runs", self.task, name) if name else None


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        code: The exit code.
        status: `completed`, `stopped`, `pruned`, `interrupted`, `failed` or `refused`.
        metrics: The latest value of every metric, by full name.
        run_dir: Where the run's files are, or None if it left none.
        error: The reason for a failure, in one line.
    """

    code: int = 0
    status: str = "completed"
    metrics: dict[str, float] = field(default_factory=dict)
    run_dir: Path | None = None
    error: str = ""
