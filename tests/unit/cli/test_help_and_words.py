"""The examples of the help, and a command in words that a shell takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from cli_project import Run, project, run

from framework.cli.help import help_text
from framework.cli.quoting import again

__all__ = ["project", "run"]


def test_help_has_examples_that_exist_here(run: Run, project: Path, tmp_path: Path) -> None:
    text = help_text(project / "conf")
    examples = re.findall(r"^  python -m framework (.*?)(?:  +#.*)?$", text, re.MULTILINE)
    assert len(examples) == 5
    tasks = {path.stem for path in (project / "conf/task").glob("*.yaml")}
    for line in examples:
        (chosen,) = re.findall(r"task=(\S+)", line)
        assert set(chosen.split(",")) <= tasks
        words = [w for w in shlex.split(line) if w != "-m" and "," not in w]
        assert run("task=mine", *[w for w in words if "task=" not in w], "--cfg", "job")[0] == 0
    assert "task=<task>" in help_text(tmp_path / "nowhere")


def test_the_command_again() -> None:
    words = ["-m", "task=mine", "task.x=[a,b]", "sweep_dir=old"]
    assert again(words, sweep_dir=Path("s/1")) == (
        "python -m framework -m task=mine 'task.x=[a,b]' sweep_dir=s/1"
    )
