"""Disks that fill up, turn read-only or lose the run's directory while it trains."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults import SLOW, import_all
from benchmarks.faults.compare import differences
from benchmarks.faults.runs import PATIENCE, Run, exit_code

# A state of about 1.6 MB, of which the small disk holds two.
_WIDE = ("task.width=4096",)


def disks(directory: Path) -> dict[str, str]:
    """Take a run's disk away in several ways, and give it back.

    Args:
        directory: Where to.

    Returns:
        By what was done: an empty text where all went as promised, else what did not.
    """
    import_all()
    whole = Run(directory / "whole-wide", _WIDE)
    whole.finish()
    mount = directory / "disk"
    mount.mkdir()
    outcomes = {
        "the directory deleted": _deleted(directory),
        "the directory read-only": _read_only(directory, whole),
    }
    if not _mounted(mount, "size=5m"):
        return outcomes | {"a full disk": "not run: needs the right to mount"}
    try:
        outcomes["a full disk"] = _comes_back(
            Run(mount / "full", _WIDE), whole, lambda: None, lambda: _remount(mount, "size=64m")
        )
    finally:
        subprocess.run(["umount", "--lazy", str(mount)], check=False)
    return outcomes


def _comes_back(
    run: Run, whole: Run, take: Callable[[], None], give_back: Callable[[], None]
) -> str:
    """Take the disk away in mid-run; the run must report it, and go on once it is back."""
    run.options += SLOW
    child = run.fork()
    _wait_for_checkpoint(run)
    take()
    code = exit_code(child, PATIENCE)
    said = Path(f"{run.run_dir}.out")
    give_back()
    from framework.checkpoint.store import CheckpointStore

    store = CheckpointStore(run.run_dir / "checkpoints")
    steps = store.steps()
    for step in steps:
        store.load(store.path(step))
    run.finish()
    found = differences(whole.run_dir, run.run_dir) if run.code == 0 else ["it did not go on"]
    if code != 2 or not steps or found:
        return f"exit {code}, checkpoints {steps}, {found}\n{said.read_text()}"
    return ""


def _deleted(directory: Path) -> str:
    run = Run(directory / "deleted", SLOW)
    child = run.fork()
    _wait_for_checkpoint(run)
    shutil.rmtree(run.run_dir, ignore_errors=True)
    code = exit_code(child, PATIENCE)
    said = Path(f"{run.run_dir}.out").read_text()
    if code != 2 or "Traceback" in said or "no longer exists" not in said:
        return f"exit {code}\n{said}"
    return ""


def _read_only(directory: Path, whole: Run) -> str:
    run = Run(directory / "read-only", _WIDE)
    checkpoints = str(run.run_dir / "checkpoints")

    def change(flag: str) -> None:
        subprocess.run(["chattr", flag, checkpoints], capture_output=True, check=True)

    try:
        return _comes_back(run, whole, lambda: change("+i"), lambda: change("-i"))
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        return f"not run: {error}"


def _wait_for_checkpoint(run: Run) -> None:
    until = time.monotonic() + PATIENCE
    while not list(run.run_dir.glob("checkpoints/step-*/manifest.json")):
        if time.monotonic() > until:
            raise RuntimeError(Path(f"{run.run_dir}.out").read_text())
        time.sleep(0.005)


def _mounted(mount: Path, options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mount)]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _remount(mount: Path, option: str) -> None:
    command = ["mount", "-o", f"remount,{option}", str(mount)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise RuntimeError(f"cannot remount {mount} {option}")
