"""All faults in one table."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks import faults

COLUMNS = ["what", "how often", "as promised"]


def measure(quick: bool, say: Callable[[str], None]) -> list[tuple[str, str, bool]]:
    """Run everything, and return rows of (what, counts, whether all was as promised).

    Args:
        quick: A twentieth of the runs.
        say: Called with a line now and then.
    """
    directory = faults.make_directory()
    directory.chmod(0o755)  # a part runs without privileges
    rows: list[tuple[str, str, bool]] = []

    def note(what: str, counts: str, good: bool) -> None:
        say(f"{what}: {counts}{'' if good else '  NOT AS PROMISED'}")
        rows.append((what, counts, good))

    _kills(directory / "one", 100 // (20 if quick else 1), note, say)
    _vae(directory / "vae", note, say, 2 if quick else 10)
    _damage(directory, note, quick)
    _devices(directory, note, say, quick)
    _disks(directory, note)
    _costs(directory, note, quick)
    if all(good for _, _, good in rows):
        shutil.rmtree(directory, ignore_errors=True)
    else:
        say(f"what they have left is in {directory}")
    return rows


Note = Callable[[str, str, bool], None]


def _kills(directory: Path, count: int, note: Note, say: Callable[[str], None]) -> None:
    runs = faults.killed(count, directory, say)
    good = sum(run.code == 0 for run in runs)
    kills, saves = sum(run.kills for run in runs), sum(run.saves > 0 for run in runs)
    validations = sum(run.validations > 0 for run in runs)
    note("runs killed by SIGKILL, equal bit for bit", f"{good} of {count}", good == count)
    enough = saves >= count // 5 and validations >= count // 10
    about = f"{saves} runs while saving, {validations} while validating"
    note(f"in all {kills} kills", about, enough)
    note("another seed", "differs", faults.another_seed(directory))
    signals = max(2, count // 5)
    wrong = faults.signalled(signals, directory)
    counts = f"{signals - len(wrong)} of {signals}"
    note("SIGTERM and SIGINT: exit code, 5 s, no step lost", counts, not wrong)
    for line in wrong:
        say(line)


def _vae(directory: Path, note: Note, say: Callable[[str], None], count: int) -> None:
    wrong = faults.vae_killed(count, directory)
    note("the gallery's convolutional VAE, the same", f"{count - len(wrong)} of {count}", not wrong)
    for line in wrong:
        say(line)


def _damage(directory: Path, note: Note, quick: bool) -> None:
    from benchmarks.faults.damage import damaged

    checkpoints = directory / "one" / "whole" / "checkpoints"
    count, wrong = damaged(checkpoints, directory / "damaged", flips=10 if quick else 200)
    note("damaged files noticed, never loaded", f"{count - len(wrong)} of {count}", not wrong)


def _devices(directory: Path, note: Note, say: Callable[[str], None], quick: bool) -> None:
    from benchmarks.faults.workers import workers_killed

    count = 2 if quick else 10
    runs = faults.killed(count, directory / "two", say, options=("trainer.devices=2",))
    good = sum(run.code == 0 for run in runs)
    note("the same on two devices", f"{good} of {count}", good == count)
    count = 1 if quick else 6
    wrong = workers_killed(count, directory / "workers")
    note("the same with two workers", f"{count - len(wrong)} of {count}", not wrong)
    for line in wrong:
        say(line)


def _disks(directory: Path, note: Note) -> None:
    from benchmarks.faults.disks import disks

    for what, wrong in disks(directory).items():
        note(what, wrong or "reported; what was saved is whole; goes on later", not wrong)


def _costs(directory: Path, note: Note, quick: bool) -> None:
    from benchmarks.faults import saving

    room = saving.room_of_checkpoint(directory)
    note(
        "size of a checkpoint of the lesson's network, over its arrays", f"{room:.3f}", room <= 1.05
    )
    seconds = saving.first_step_after(directory, rounds=2 if quick else 5)
    about = f"{seconds[1]:.2f} s after 1 epoch, {seconds[10]:.2f} s after 10"
    note("first new step of a continued run", about, seconds[10] <= 1.15 * seconds[1])
    cost = saving.cost_of_saving(directory, rounds=1 if quick else 5, units=256 if quick else 2048)
    about = f"{cost['ratio']:.3f} of the steps/s ({cost['megabytes']:.0f} MB)"
    note("saving in the background every 10 s", about, quick or cost["ratio"] >= 0.95)
