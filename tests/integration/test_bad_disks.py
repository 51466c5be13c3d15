"""Disks that are read-only or break, things in the way, and a terminal that is closed."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
from cli_project import Run, project, run

__all__ = ["project", "run"]

FIT = ("task=mine", "run_dir=out/a", "trainer.engine=graph")


def test_a_run_on_a_read_only_disk_is_tested(run: Run, project: Path) -> None:
    assert run(*FIT)[0] == 0
    metrics = run("mode=test", "run_dir=out/a")[1]
    command = ["mount", "--bind", "out/a", "out/a"]
    if os.getuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", "out/a"], check=True)
        before = sorted(p.name for p in Path("out/a").iterdir())
        for mode in ("test", "validate"):
            code, out, err = run(f"mode={mode}", "run_dir=out/a")
            assert code == 0, err
            assert "cannot write to" in err
            assert "loss" in out
        assert "test/loss" in metrics
        code, _, err = run("mode=predict", "run_dir=out/a")
        assert code == 2
        assert "Read-only" in err
        assert before == sorted(p.name for p in Path("out/a").iterdir())
    finally:
        subprocess.run(["umount", "--lazy", "out/a"], check=False)


@pytest.mark.parametrize("name", ["result.json", "metrics.csv", "log.txt", ".lock", "config.yaml"])
@pytest.mark.parametrize("kind", ["directory", "pipe", "link"])
def test_something_else_where_a_file_goes_is_said_on_one_screen(
    run: Run, project: Path, name: str, kind: str
) -> None:
    path = project / "out/a" / name
    path.parent.mkdir(parents=True)
    (path.parent / "checkpoints").mkdir()
    if kind == "directory":
        path.mkdir()
        (path / "x").touch()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        (project / "precious").write_text("mine")
        path.symlink_to(project / "precious")
    code, _, err = run(*FIT)
    if name == "result.json" and kind != "directory":
        assert code == 0, err  # which is put in its place, not through it
    else:
        assert code == 2, err
        assert "fix:" in err
    assert len(err.splitlines()) < 12, err
    assert kind != "link" or (project / "precious").read_text() == "mine"


def test_a_sync_that_fails_at_the_end_is_said(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(handle: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("framework.checkpoint.tree.os.fsync", broken)
    code, _, err = run(*FIT, "loggers=[]")
    assert code == 2
    assert "Input/output error" in err
