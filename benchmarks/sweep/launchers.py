"""The same sweep under every launcher that is installed, compared bit for bit."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from benchmarks.faults.compare import differences
from benchmarks.sweep.disturbed import PATIENCE, start

COLUMNS = ["launcher", "exit code", "jobs that differ", "table"]
_OTHERS = {
    "processes": ("", ["jobs=2"]),
    "joblib": ("hydra_joblib_launcher", ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]),
    "submitit_local": ("hydra_submitit_launcher", ["hydra/launcher=submitit_local"]),
    "ray": ("hydra_ray_launcher", ["hydra/launcher=ray", "+hydra.launcher.ray.init.num_cpus=2"]),
}


def compare(
    count: int, directory: Path, say: Callable[[str], None] = lambda line: None
) -> list[list[str]]:
    """Run a sweep of so many short jobs under each launcher; return rows of a table.

    Args:
        count: How many jobs.
        directory: Where the sweeps go.
        say: Called with a line now and then.
    """
    words = ["-m", "task=short", f"seed={','.join(map(str, range(count)))}"]
    code = start(words, directory / "basic").wait(PATIENCE)
    rows = [["basic", str(code), "", ""]]
    for name, (package, options) in _OTHERS.items():
        if package and (find_spec("hydra_plugins") is None or not _is_there(package)):
            rows.append([name, "not installed", "", ""])
            continue
        code = start([*words, *options], directory / name).wait(PATIENCE)
        jobs = [path.name for path in directory.glob("basic/[0-9]*")]
        there = [job for job in jobs if (directory / name / job / "result.json").exists()]
        wrong = [j for j in there if differences(directory / "basic" / j, directory / name / j)]
        different = len(jobs) - len(there) + len(wrong)
        same = _table(directory, "basic") == _table(directory, name)
        rows.append([name, str(code), f"{different} of {len(jobs)}", "same" if same else "OTHER"])
        say(f"sweep: {' '.join(rows[-1])}")
    return rows


def missed(rows: list[list[str]]) -> list[str]:
    """Return the launchers that gave something else."""
    found = []
    for name, code, different, table in rows:
        good = code == "0" and (name == "basic" or (different[:2] == "0 " and table == "same"))
        if not good and code != "not installed":
            found.append(f"sweep_launchers: {name}: {code}, {different} differ, table {table}")
    return found


def _is_there(package: str) -> bool:
    return find_spec(f"hydra_plugins.{package}") is not None


def _table(directory: Path, name: str) -> list[str]:
    text = Path(f"{directory / name}.out").read_text()
    return [" ".join(line.split()) for line in text.splitlines() if re.match(r" \d+ ", line)]
