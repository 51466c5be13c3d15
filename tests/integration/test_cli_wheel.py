"""A project elsewhere runs on the installed wheel alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cli_project import FILES, TASK
from places import ROOT


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy, so that the build leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    unwanted = shutil.ignore_patterns("__pycache__", ".*", "build", "dist", "*.egg-info")

    def ignore(folder: str, names: list[str]) -> set[str]:
        return unwanted(folder, names) | ({"runs"} if Path(folder) == ROOT else set())

    shutil.copytree(ROOT, folder / "source", ignore=ignore)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "-q", "-w", str(folder)]
    built = subprocess.run(command, cwd=folder / "source", text=True, capture_output=True)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_library_alone(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"framework"}
    packed = {name for name in names if name.startswith("framework/")}
    sources = {p for p in (ROOT / "framework").rglob("*") if p.suffix in (".py", ".typed")}
    assert packed == {str(p.relative_to(ROOT)) for p in sources}


def test_a_project_elsewhere_runs_on_the_wheel(wheel: Path, tmp_path: Path) -> None:
    site, home = tmp_path / "site", tmp_path / "home"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site)]
    subprocess.run([*command, str(wheel)], check=True)
    for name, text in {
        "tasks/mine.py": TASK,
        "conf/task/mine.yaml": FILES["conf/task/mine.yaml"].replace("cliproj", "tasks"),
    }.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    env = {**os.environ, "PYTHONPATH": str(site)}

    def call(*command: str) -> str:
        done = subprocess.run(command, cwd=home, env=env, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "A line through points." in call(sys.executable, "-m", "framework", "--help")
    call(sys.executable, "-m", "framework", "task=mine", "run_dir=a")
    call(str(site / "bin/keras-task"), "task=mine", "run_dir=a", "trainer.max_epochs=2")
    result = json.loads((home / "a/result.json").read_text())
    assert (result["status"], result["global_step"]) == ("completed", 20)
    where = "import framework; print(framework.__file__)"
    assert call(sys.executable, "-c", where).startswith(str(site))
