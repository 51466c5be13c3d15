"""What to run, and what came of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from framework.cli.references import References
from framework.core.paths import local_path


@dataclass(frozen=True)
class Job:
    """What to run.

    Attributes:
        config: The configuration, resolved, as plain values.
        task: The task's name in the configuration.
        overrides: The command line's overrides.
        run_dir: Where to, unless the configuration says so. None: `runs/<task>/<time>-<random>`.
        references: What of the configuration refers to the environment.
        command: The words of the command line, to be shown again; none in a sweep.
    """

    config: Mapping[str, Any]
    task: str
    overrides: Sequence[str] = ()
    run_dir: Path | None = None
    references: References = field(default_factory=References)
    command: Sequence[str] = ()

    @property
    def written(self) -> dict[str, Any]:
        """The configuration as files hold it: with references to the environment, not values."""
        return self.references.put_into(self.config)

    def chosen(self) -> Collection[str]:
        """Return the sections that the overrides name."""
        keys = {o.lstrip("+~").partition("=")[0] for o in self.overrides}
        return {key.partition("@")[0].partition(".")[0] for key in keys}

    def place(self) -> Path | None:
        """Return the run directory that was asked for, if any."""
        given = self.config["run_dir"] or self.run_dir
        return local_path(given, "run_dir") if given else None


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        code: The exit code.
        status: `completed`, `stopped`, `interrupted`, `failed` or `refused`.
        metrics: The latest value of every metric by full name.
        run_dir: Where its files are, or None if it left none.
        error: Why it failed, in one line.
    """

    code: int = 0
    status: str = "completed"
    metrics: dict[str, float] = field(default_factory=dict)
    run_dir: Path | None = None
    error: str = ""
