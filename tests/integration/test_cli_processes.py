"""The command line in processes of its own: quick to show, interrupted, completed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cli_project import project, result
from places import ROOT

__all__ = ["project"]


def start(*words: str, folder: Path, **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options}
    command = [sys.executable, "-m", "framework", *words]
    return subprocess.Popen(
        command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job", "task=mine"]])
def test_showing_is_quick_and_needs_no_tensorflow(project: Path, words: list[str]) -> None:
    code = (
        "import sys, time; began = time.process_time(); from framework.cli import main;"
        f"code = main({words!r}); print('seconds', time.process_time() - began);"
        "print('heavy', sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "heavy []" in done.stdout
    assert float(re.search(r"seconds (.*)", done.stdout)[1]) < 1.5  # type: ignore[index]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_can_be_continued(project: Path, sent: int, code: int) -> None:
    words = ["task=mine", "+task.fail=slow", "trainer.max_epochs=10000", "run_dir=a"]
    process = start(*words, folder=project)
    try:
        metrics = project / "a/metrics.csv"
        until = time.monotonic() + 300
        while time.monotonic() < until and not (
            metrics.exists() and len(metrics.read_text().splitlines()) > 2
        ):
            time.sleep(0.1)
        process.send_signal(sent)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert "Traceback" not in out + err
    assert "Run directory: a" in out
    found = result(project / "a")
    assert found["status"] == "interrupted"
    step = found["global_step"]
    assert (project / f"a/checkpoints/step-{step:08d}").is_dir()


def test_shell_completion(project: Path) -> None:
    script = project / "bin/keras-task"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom framework.cli import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def complete(line: str) -> list[str]:
        more = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
        command = [str(script), "-sc", "query=bash"]
        return subprocess.run(
            command, env={**env, **more}, text=True, capture_output=True, check=True
        ).stdout.split()

    assert "task=mine" in complete("keras-task task=mi")
    assert "optimizer=adam" in complete("keras-task optimizer=ad")
    assert "trainer.max_epochs=" in complete("keras-task task=mine trainer.max_e")
    command = [str(script), "--shell-completion", "install=bash"]
    install = subprocess.run(command, env=env, text=True, capture_output=True, check=True).stdout
    assert install.rstrip().endswith("hydra_bash_completion keras-task")
    assert subprocess.run(["bash", "-n", "-c", install], check=False).returncode == 0
    # The console script finds the project's modules too.
    done = subprocess.run(
        [str(script), "task=mine", "+task.fail=init"], env=env, text=True, capture_output=True
    )
    assert "no such units" in done.stderr
