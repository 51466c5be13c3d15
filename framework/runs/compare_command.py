"""The command `python -m framework.runs`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from framework.core.paths import local_path
from framework.errors import UserError, choice
from framework.runs.comparison_table import Comparison, compare
from framework.runs.finished_run import RunRecord, find_runs
from framework.runs.selection import selecting
from framework.runs.table_formats import FORMATS, as_terminal_table
from framework.text.escape import plain

_EPILOG = """\
examples:
  python -m framework.runs runs
  python -m framework.runs runs/s --where "optimizer.learning_rate > 0.001" --group seed
  python -m framework.runs runs/s --objective val/accuracy --format markdown
  python -m framework.runs runs/s --plot sweep.png --html sweep.html
"""


def main(words: Sequence[str] | None = None) -> int:
    """Compare runs as the command line asks.

    Args:
        words: The arguments. Default: those of this process.

    Returns:
        The exit code: 2 for a mistake, else 0.
    """
    options = _parser().parse_args(words)
    try:
        _compare(options)
    except UserError as error:
        print(plain(f"error: {error}"), file=sys.stderr)
        return 2
    except BrokenPipeError:  # such as `| head`
        sys.stderr.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m framework.runs",
        description="Compare the runs in and below a directory.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("directory", nargs="?", default="runs", help="where to look; default: runs")
    add("--where", metavar="TEST", help='select runs: "seed > 1 and status == completed"')
    add("--group", metavar="KEYS", help="average over these options: seed, or a,b")
    add("--objective", metavar="METRIC", help="rank by this metric, such as val/accuracy")
    add("--direction", metavar="min|max", help="which objective is better; default: by its name")
    add("--sort", metavar="COLUMN", help="sort by a column; -COLUMN reverses")
    add("--columns", metavar="NAMES", help="the options and metrics to show: a,b")
    add("--format", default="table", metavar="|".join(FORMATS), help="default: table")
    add("--plot", metavar="FILE.png", help="draw the comparison (needs matplotlib)")
    add("--html", metavar="FILE.html", help="write a page with the table and the plot")
    return parser


def _compare(options: argparse.Namespace) -> None:
    if options.format not in FORMATS:
        fix = choice(options.format, FORMATS)
        raise UserError(f"there is no format {options.format!r}", where="--format", fix=fix)
    if options.direction not in (None, "min", "max"):
        fix = choice(options.direction, ("min", "max"))
        raise UserError(f"direction is {options.direction!r}", where="--direction", fix=fix)
    directory = local_path(options.directory, "directory")
    runs = _found(directory)
    selected = runs
    if options.where:
        test = selecting(options.where, runs)
        selected = [run for run in runs if test(run)]
    comparison = compare(
        selected,
        group=_names(options.group),
        objective=options.objective,
        direction=options.direction,
        sort=options.sort,
        columns=_names(options.columns),
    )
    if options.format == "table":
        as_terminal_table(comparison)
        _say(directory, selected, runs)
    else:
        print(plain(FORMATS[options.format](comparison)), end="")
    _draw(options, comparison)


def _draw(options: argparse.Namespace, comparison: Comparison) -> None:
    if options.plot:
        from framework.runs.comparison_plot import write_plot

        write_plot(comparison, Path(options.plot))
        print(f"Plot: {options.plot}", file=sys.stderr)
    if options.html:
        from framework.runs.comparison_plot import write_page

        write_page(comparison, Path(options.html))
        print(f"Page: {options.html}", file=sys.stderr)


def _found(directory: Path) -> list[RunRecord]:
    if not directory.is_dir():
        raise UserError(
            "there is no such directory",
            where=str(directory),
            fix="Give the directory of a run, of a sweep, or of all runs.",
        )
    runs = find_runs(directory)
    if not runs:
        raise UserError(
            "there are no runs",
            where=str(directory),
            fix="A run directory has a config.yaml; runs go to runs/ unless run_dir= is given.",
        )
    return runs


def _say(directory: Path, selected: Sequence[RunRecord], runs: Sequence[RunRecord]) -> None:
    shown = f"{len(selected):,} of {len(runs):,}" if len(selected) < len(runs) else f"{len(runs):,}"
    print(plain(f"{shown} run{'s' * (len(runs) != 1)} in {directory}"))
    for run in selected:
        if run.problem:
            print(plain(f"broken: {run.name}: {run.problem}"), file=sys.stderr)


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]
