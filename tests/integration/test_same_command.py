"""A run accepts its own command again, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run, project, run

__all__ = ["project", "run"]


@pytest.mark.parametrize("value", ["nan", "-inf", "[nan,{a:nan}]", "-0.0", "null", "1e400"])
def test_a_command_continues_its_own_run(run: Run, project: Path, value: str) -> None:
    (project / "cliproj/mine.py").write_text(
        (project / "cliproj/mine.py").read_text().replace('fail="", rows', 'fail="", x=0, rows')
    )
    words = ["task=mine", f"+task.x={value}", "run_dir=r", "trainer.engine=graph", "loggers=[]"]
    assert run(*words, "trainer.max_steps=1")[0] == 0
    code, out, err = run(*words, "trainer.max_steps=2")
    assert code == 0, err
    assert "resuming from" in out
    assert run(*words, "+task.rows=50")[0] == 2
