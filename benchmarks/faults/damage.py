"""Damaged checkpoints: always noticed, never loaded, the newest whole one taken instead."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from framework.checkpoint.store import CheckpointStore
from framework.errors import UserError


def damaged(checkpoints: Path, aside: Path, flips: int = 200) -> tuple[int, list[str]]:
    """Damage the newest of several checkpoints in every way, one after the other.

    Args:
        checkpoints: Of a complete run that has kept at least two; left as it is.
        aside: Where to make copies; must not exist.
        flips: How many bits to flip, each alone.

    Returns:
        How many kinds of damage there were, and those that did not end as promised.
    """
    whole = CheckpointStore(checkpoints)
    older, newest = (whole.path(step) for step in whole.steps()[-2:])
    whole.load(older)  # so that a process without privileges need import nothing
    wrong, count = [], 0
    for what, damage in _every_damage(newest, flips):
        for alone in (False, True):
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir()
            shutil.copytree(newest, aside / newest.name)
            if not alone:
                shutil.copytree(older, aside / older.name)
            damage(aside / newest.name / what.partition(" ")[0])
            outcome = _outcome(aside)
            count += 1
            if outcome != ("refused" if alone else older.name):
                wrong.append(f"{what}{', no other' if alone else ''}: {outcome}")
    return count, wrong


def _outcome(directory: Path) -> str:
    """Return which checkpoint is loaded, or `refused`, as a process without privileges sees it."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        if os.getuid() == 0:
            os.setuid(65534)  # root may read everything
        store = CheckpointStore(directory)
        try:
            path = store.find("last")
            store.load(path)
            outcome = path.name
        except UserError:
            outcome = "refused"
        except BaseException as error:
            outcome = repr(error)
        os.write(writer, outcome.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        outcome = pipe.read()
    os.waitpid(child, 0)
    return outcome


def _every_damage(checkpoint: Path, flips: int) -> Iterator[tuple[str, Callable[[Path], None]]]:
    files = sorted(checkpoint.iterdir())
    for file in files:
        name, size = file.name, file.stat().st_size
        for tenth in range(10):
            yield f"{name} cut to {tenth}/10", partial(os.truncate, length=size * tenth // 10)
        yield f"{name} missing", Path.unlink
        yield f"{name} unreadable", partial(Path.chmod, mode=0)
    draw = random.Random(0)
    sizes = [file.stat().st_size for file in files]
    for _ in range(flips):
        # As many in the small files as in the large one.
        file, size = draw.choice(list(zip(files, sizes, strict=True)))
        place, bit = draw.randrange(size), draw.randrange(8)
        yield f"{file.name} bit {bit} of byte {place}", partial(_flip, place=place, bit=bit)


def _flip(file: Path, place: int, bit: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1 << bit
    file.write_bytes(content)
