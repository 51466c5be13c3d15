"""`python -m benchmarks [names...]`: measure, print the tables, and with `--check` judge."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from benchmarks.page import Report

# The short ones first: they are to find the machine as it was.
WORKLOADS = (
    *("startup", "memory", "evaluation", "steady", "one_layer", "mnist", "wgan_gp"),
    *("mnist_lesson", "cifar100", "cifar100_stream", "devices"),
)
# Only if they are named: they take long.
ALONE = (
    "repeat",
    "faults",
    "hostile",
    "sweep",
    "data",
    "exports",
)


def main(arguments: list[str] | None = None) -> int:
    """Run the workloads that are named, and return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(given)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    names = options.names or list(WORKLOADS)
    unknown = [name for name in names if name not in (*WORKLOADS, *ALONE)]
    if unknown:
        there = ", ".join((*WORKLOADS, *ALONE))
        print(f"unknown workload {unknown[0]!r}; there are {there}", file=sys.stderr)
        return 2
    mistake = _mistake(options)
    if mistake:
        print(mistake, file=sys.stderr)
        return 2
    rounds = options.rounds or (2 if options.quick else 5)
    seconds = options.seconds or (0.5 if options.quick else 2.0)

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 110)
    errors = Console(stderr=True, highlight=False)
    report = Report(console, options.write, shlex.join(["python", "-m", "benchmarks", *given]))
    report.head()
    missed: list[str] = []
    refused = False  # whether something fails without --check, too
    for name in sorted(names, key=(*WORKLOADS, *ALONE).index):
        if name == "startup":
            missed += _startup(report, errors, rounds)
        elif name == "repeat":
            missed += _repeat(report, errors, options)
        elif name == "faults":
            missed += _faults(report, errors, options.quick)
        elif name == "hostile":
            wrong = _hostile(report, errors)
            missed, refused = missed + wrong, refused or bool(wrong)
        elif name == "sweep":
            missed += _sweep(report, errors, options)
        elif name == "data":
            missed += _data(report, errors, rounds, options.quick)
        elif name == "exports":
            missed += _exports(report, errors, options)
        elif name == "evaluation":
            missed += _evaluation(report, errors, options.data_dir, rounds)
        elif name == "steady":
            missed += _steady(report, errors, rounds, options.quick)
        elif name == "memory":
            missed += _memory(report, 20 if options.quick else 200)
        elif name == "devices" and len(names) > 1:
            # Logical devices are made when TensorFlow begins, and it has begun.
            rest = [word for word in given if word not in WORKLOADS]
            subprocess.run([sys.executable, "-m", "benchmarks", "devices", *rest], check=True)
        else:
            missed += _speed(report, errors, name, options, rounds, seconds)
    for line in missed:
        console.print(f"missed: {line}")
    if not missed and not options.quick:
        console.print("every bar is met")
    return 1 if refused or (missed and options.check) else 0


def _mistake(options: argparse.Namespace) -> str | None:
    """Return what is wrong with the options that argparse does not know of."""
    if options.data_dir is not None and not Path(options.data_dir).is_dir():
        return f"there is no directory {options.data_dir}"
    if options.contenders:
        from benchmarks.contenders import CONTENDERS

        for name in options.contenders.split(","):
            if name not in CONTENDERS:
                return f"unknown contender {name!r}; there are {', '.join(CONTENDERS)}"
    return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure the framework beside Model.fit and hand-written loops: in one "
        "process, in turn, the median of several rounds.",
    )
    about = f"what to measure: {', '.join(WORKLOADS)}; default: all of these; or {', '.join(ALONE)}"
    parser.add_argument("names", nargs="*", help=about, metavar="name")
    parser.add_argument("--rounds", type=int, help="turns of each contender; default: 5")
    parser.add_argument("--seconds", type=float, help="length of a turn; default: 2")
    parser.add_argument("--steps", type=int, help="steps of a turn, instead of --seconds")
    parser.add_argument("--contenders", help="only these, separated by commas")
    parser.add_argument(
        "--data-dir", help="directory of cifar100.npz, mnist.npz; default: random images"
    )
    parser.add_argument(
        "--write", type=Path, metavar="PAGE", help="put the tables into a Markdown page as well"
    )
    parser.add_argument("--quick", action="store_true", help="2 short rounds: a rough look")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a bar is missed")
    return parser


def _speed(
    report: Report,
    errors: Console,
    name: str,
    options: argparse.Namespace,
    rounds: int,
    seconds: float,
) -> list[str]:
    import tensorflow as tf

    from benchmarks import contenders, speed, wgan, workloads

    if name == "devices":
        two = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], two)
    workload = {
        "one_layer": workloads.one_layer,
        "wgan_gp": wgan.wgan_gp,
        "mnist": lambda: workloads.mnist(options.data_dir),
        "mnist_lesson": lambda: workloads.mnist_lesson(options.data_dir),
        "cifar100": lambda: workloads.cifar100(options.data_dir),
        "cifar100_stream": lambda: workloads.cifar100_stream(options.data_dir),
        "devices": lambda: workloads.devices(options.data_dir),
    }[name]()
    rates = speed.measure(
        workload,
        options.contenders.split(",") if options.contenders else None,
        rounds=rounds,
        seconds=seconds,
        steps=options.steps,
        say=errors.print,
    )
    about = f"{workload.about}; batch {workload.batch}; engine={contenders.chosen_engine(workload)}"
    title = f"{name}: {about}; median of {rounds} rounds"
    report.table(title, speed.COLUMNS, rates.rows())
    return rates.missed()


def _startup(report: Report, errors: Console, rounds: int) -> list[str]:
    from benchmarks import startup

    seconds = startup.measure(rounds=rounds, say=errors.print)
    title = f"startup: `python -m framework ...`, median of {rounds} rounds"
    report.table(title, startup.COLUMNS, startup.rows(seconds))
    report.table("startup_parts: where it goes", ["part", "seconds"], startup.parts())
    return startup.missed(seconds)


def _repeat(report: Report, errors: Console, options: argparse.Namespace) -> list[str]:
    from benchmarks import repeat

    quick = options.quick
    rows = repeat.measure(
        options.data_dir,
        runs=options.rounds or (2 if quick else 5),
        epochs=1 if quick else 3,
        batches=20 if quick else 60,
        say=errors.print,
    )
    report.table("repeat: the same command again, on a CPU, engine=graph", repeat.COLUMNS, rows)
    return [
        f"repeat: {row[0]} ended with {row[3]} different results" for row in rows if row[4] == "NO"
    ]


def _faults(report: Report, errors: Console, quick: bool) -> list[str]:
    from benchmarks.faults.report import COLUMNS, measure

    rows = measure(quick, errors.print)
    shown = [[what, counts, "yes" if good else "NO"] for what, counts, good in rows]
    report.table("faults: what is promised of runs that are killed", COLUMNS, shown)
    return [f"faults: {what}" for what, _, good in rows if not good]


def _hostile(report: Report, errors: Console) -> list[str]:
    from benchmarks.hostile.report import COLUMNS, measure

    rows = measure(errors.print)
    title = "hostile: what somebody may send, answered on one screen or read rightly"
    report.table(title, COLUMNS, [cells for cells, _ in rows])
    return [f"hostile: {cells[0]}: {wrong}" for cells, wrong in rows if wrong]


def _sweep(report: Report, errors: Console, options: argparse.Namespace) -> list[str]:
    from benchmarks.sweep import disturbed, launchers, searched, side_by_side

    quick = options.quick
    with tempfile.TemporaryDirectory() as directory:
        count = 5 if quick else 12
        ending = disturbed.disturb(count, Path(directory), errors.print)
        rows = launchers.compare(2 if quick else 6, Path(directory), errors.print)
        searches = searched.disturb(8 if quick else 20, Path(directory), errors.print)
    whole = {"completed": count - 1, "failed": 1}
    good = (ending.code, ending.statuses, ending.folders) == (1, whole, count)
    good = good and not ending.different
    row = [f"{count} jobs", str(ending.statuses), f"{len(ending.different)} differ"]
    title = "sweep_faults: a job raises, one is killed, and twice the parent is"
    report.table(title, ["sweep", "ended", "from the undisturbed one"], [row])
    title = "sweep_launchers: the same sweep under every launcher, bit for bit"
    report.table(title, launchers.COLUMNS, rows)
    title = "search_faults: a search undisturbed, killed twice, and by three processes"
    report.table(title, searched.COLUMNS, searches)
    found = side_by_side.measure(
        options.data_dir,
        jobs=2 if quick else 8,
        epochs=1 if quick else 2,
        rounds=options.rounds or (1 if quick else 3),
        say=errors.print,
    )
    title = "sweep: the lesson's CIFAR-100 task, one and two jobs at a time, in turn"
    report.table(title, side_by_side.COLUMNS, side_by_side.rows(*found))
    faults = [] if good else [f"sweep_faults: {ending}"]
    faults += searched.missed(searches)
    return [*faults, *launchers.missed(rows), *side_by_side.missed(*found)]


def _data(report: Report, errors: Console, rounds: int, quick: bool) -> list[str]:
    from benchmarks.own_data import report as own

    rows, missed = own.measure(rounds, quick, errors.print)
    report.table(f"data: engine=graph; median of {rounds} rounds", own.COLUMNS, rows)
    rows, faults = own.kill(1 if quick else 3, errors.print)
    report.table("data_killed: SIGKILL in mid-epoch, continued", own.KILLED_COLUMNS, rows)
    return missed + faults


def _exports(report: Report, errors: Console, options: argparse.Namespace) -> list[str]:
    from benchmarks import exported

    tasks = exported.QUICK if options.quick else exported.TASKS
    with tempfile.TemporaryDirectory() as directory:
        rows = exported.measure(options.data_dir, Path(directory), tasks, errors.print)
    title = "exports: raw test images, where only a format's reader is installed"
    report.table(title, exported.COLUMNS, rows)
    return exported.missed(rows)


def _evaluation(report: Report, errors: Console, data_dir: str | None, rounds: int) -> list[str]:
    from benchmarks import evaluation

    seconds = evaluation.measure(data_dir, rounds=rounds, say=errors.print)
    title = f"evaluation: 10,000 CIFAR-100 images, the lesson's network; median of {rounds} rounds"
    report.table(title, evaluation.COLUMNS, evaluation.rows(seconds))
    return evaluation.missed(seconds)


def _steady(report: Report, errors: Console, rounds: int, quick: bool) -> list[str]:
    from benchmarks import steady

    steps = 2_000 if quick else 20_000
    found = steady.measure(rounds=rounds, steps=steps, say=errors.print)
    title = f"steady: one dense layer, engine=graph, median of {rounds} rounds of {steps:,} steps"
    report.table(title, steady.COLUMNS, steady.rows(*found))
    return steady.missed(*found)


def _memory(report: Report, steps: int) -> list[str]:
    from benchmarks import memory

    peaks = memory.measure(steps)
    title = f"memory: CIFAR-100 as uint8 is {memory.DATA_BYTES / 1e6:.0f} MB"
    report.table(title, memory.COLUMNS, memory.rows(*peaks))
    return memory.missed(*peaks)


if __name__ == "__main__":
    sys.exit(main())
