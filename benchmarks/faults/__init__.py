"""`python -m benchmarks faults`: what is promised of runs that are killed, counted."""

from __future__ import annotations

import json
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

from benchmarks.faults.compare import differences
from benchmarks.faults.runs import PATIENCE, Run

SLOW = ("task.pause=0.01", "task.marks=true")


def import_all() -> None:
    """Import what every run imports, before it is forked; TensorFlow itself stays untouched."""
    import framework.cli.assemble
    import framework.loggers.csv
    import framework.loggers.tensorboard
    import framework.trainer  # noqa: F401


def killed(
    count: int,
    directory: Path,
    say: Callable[[str], None],
    jobs: int = 2,
    options: tuple[str, ...] = (),
) -> list[Run]:
    """Kill runs at random moments, some again and again, and let each of them finish.

    A third of them is killed while it saves, a sixth while it validates, the rest anywhere,
    start-up included.

    Args:
        count: How many runs.
        directory: Where they go, beside the unbroken one, `whole`.
        say: Called with a line now and then.
        jobs: How many at a time.
        options: Overrides of all of them.

    Returns:
        The runs; `code` is that of the last command, or 1000 if the result is another one.
    """
    import_all()
    directory.mkdir(exist_ok=True)
    whole = Run(directory / "whole", options)
    began = time.monotonic()
    whole.finish()
    longest = time.monotonic() - began + 1.5  # the others wait after each step
    if whole.code != 0:
        raise RuntimeError(Path(f"{whole.run_dir}.out").read_text())
    tasks = [(i, directory, longest, options) for i in range(count)]
    done = []
    with get_context("fork").Pool(jobs) as pool:
        for run in pool.imap_unordered(_killed, tasks):
            done.append(run)
            if len(done) % 10 == 0:
                good = sum(run.code == 0 for run in done)
                say(f"killed by SIGKILL: {good} of {len(done)} equal the unbroken run")
    return done


def _killed(task: tuple[int, Path, float, tuple[str, ...]]) -> Run:
    number, directory, longest, options = task
    draw = random.Random(number)
    run = Run(directory / f"killed-{number}", SLOW + options)
    moment = ("save", "any", "validation", "save", "any", "any")[number % 6]
    run.kill_once(moment, draw, longest)
    while draw.random() < 0.4:
        run.kill_once(draw.choice(["save", "any", "any"]), draw, longest)
    run.finish()
    if run.code == 0 and (found := differences(directory / "whole", run.run_dir)):
        run.code = 1000
        Path(f"{run.run_dir}.differs").write_text("\n".join(found))
    elif run.code == 0:
        shutil.rmtree(run.run_dir)
    return run


def vae_killed(count: int, directory: Path) -> list[str]:
    """Kill runs of the gallery's convolutional VAE, and compare as `killed` does.

    Args:
        count: How many runs.
        directory: Where they go.

    Returns:
        What went wrong, a line for each run that did not end as the unbroken one.
    """
    import_all()
    directory.mkdir(exist_ok=True)
    options = (
        *("data.source=synthetic", "trainer.engine=graph", "trainer.max_epochs=2"),
        *("trainer.limit_train_batches=40", "trainer.limit_test_batches=2"),
        *("callbacks=checkpoint", "callbacks.checkpoint.save_every=10st"),
        "trainer.enable_progress_bar=false",
    )
    runs = [Run(directory / name, options, "mnist_vae", Path(__file__).parents[2])
            for name in ("whole", *(f"killed-{i}" for i in range(count)))]  # fmt: skip
    whole, *others = runs
    began = time.monotonic()
    whole.finish()
    longest = time.monotonic() - began
    if whole.code != 0:
        raise RuntimeError(Path(f"{whole.run_dir}.out").read_text())
    wrong = []
    for number, run in enumerate(others):
        run.kill_once(("save", "any")[number % 2], random.Random(number), longest)
        run.finish()
        found = differences(whole.run_dir, run.run_dir) if run.code == 0 else ["no end"]
        if found:
            wrong.append(f"{run.run_dir.name}: {found}")
    return wrong


def another_seed(directory: Path) -> bool:
    """Tell whether a run with another seed differs: whether the comparison can fail at all."""
    import_all()
    other = Run(directory / "other-seed", ("seed=1",))
    other.finish()
    found = differences(directory / "whole", other.run_dir)
    return other.code == 0 and {"metrics.csv", "events"} < set(found)


def signalled(count: int, directory: Path) -> list[str]:
    """Send SIGTERM and SIGINT in turn to real processes, and let the same command continue.

    Args:
        count: How many runs.
        directory: Holds the unbroken run, `whole`.

    Returns:
        What went wrong, a line for each run that did not do as promised.
    """
    wrong = []
    for i in range(count):
        number = (signal.SIGTERM, signal.SIGINT)[i % 2]
        draw = random.Random(i)
        run = Run(directory / f"signalled-{i}", SLOW)
        began = time.monotonic()
        with run.start() as process:
            # Counted in what it has logged: a moment on the clock may lie before its first step.
            rows, until = draw.randint(1, 12), time.monotonic() + PATIENCE
            while run.logged < rows and time.monotonic() < until:
                time.sleep(0.005)
            process.send_signal(number)
            sent = time.monotonic()
            process.communicate(timeout=PATIENCE)
            took = time.monotonic() - sent
        promised = 143 if number == signal.SIGTERM else 130
        result = run.run_dir / "result.json"
        logged = json.loads(result.read_text())["global_step"] if result.exists() else None
        run.finish()
        found = differences(directory / "whole", run.run_dir) if run.code == 0 else ["no end"]
        again = f"at step {logged:,}" if logged else "no step"
        if process.returncode != promised or took > max(5.0, sent - began) or found:
            wrong.append(f"{number.name}: exit {process.returncode} after {took:.1f} s, {found}")
        elif f"resuming from {run.run_dir}" not in Path(f"{run.run_dir}.out").read_text() or (
            again not in Path(f"{run.run_dir}.out").read_text()
        ):
            wrong.append(f"{number.name}: did not continue {again}: steps were lost")
        else:
            shutil.rmtree(run.run_dir)
    return wrong


def make_directory() -> Path:
    """Return a new directory for the runs."""
    return Path(tempfile.mkdtemp(prefix="faults-"))
