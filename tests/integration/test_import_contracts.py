"""The import contracts of pyproject.toml hold, exempt nothing, and notice what would break them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.api import read_configuration

ROOT = next(p for p in Path(__file__).parents if (p / "pyproject.toml").is_file())
COMMAND = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", COMMAND, "--no-cache", "--no-logo"],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the package and its contracts, to break."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "framework", tmp_path / "framework", ignore=ignore)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_contracts_hold() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 2 kept, 0 broken." in done.stdout


def test_no_import_is_exempt() -> None:
    configuration = read_configuration(str(ROOT / "pyproject.toml"))
    options = configuration["session_options"]
    assert options["root_packages"] == ["framework"]
    assert options["exclude_type_checking_imports"] in (False, "False")
    contracts = configuration["contracts_options"]
    assert [contract["type"] for contract in contracts] == ["layers", "acyclic_siblings"]
    exempting = {key for contract in contracts for key in contract if "ignore" in key}
    exempting |= {key for contract in contracts for key in contract if "skip" in key}
    assert exempting == set()
    assert contracts[0]["exhaustive"] in (True, "True")  # no new room without a place


@pytest.mark.parametrize(
    ("path", "lines", "said"),
    [
        (
            "core/graphs.py",
            "from framework.trainer import Trainer",
            "Imports go only downwards BROKEN",
        ),
        (
            "core/graphs.py",
            "if TYPE_CHECKING:\n    import framework.step.update",
            "downwards BROKEN",
        ),
        ("errors.py", "def f():\n    import framework.every", "downwards BROKEN"),
        ("loggers/csv.py", "import framework.callbacks.nan", "downwards BROKEN"),
        ("loggers/keep_damaged.py", "import framework.loggers.csv", "files or folders BROKEN"),
        ("new_room.py", "", "new_room"),
    ],
    ids=["upwards", "a type", "in a function", "a sibling", "a circle", "no place"],
)
def test_what_would_break_them_is_noticed(copy: Path, path: str, lines: str, said: str) -> None:
    assert lint_imports(copy).returncode == 0
    with (copy / "framework" / path).open("a") as file:
        file.write(f"\nfrom typing import TYPE_CHECKING\n{lines}\n")
    done = lint_imports(copy)
    assert done.returncode != 0
    assert said in done.stdout, done.stdout + done.stderr
