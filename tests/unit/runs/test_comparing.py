"""Comparing runs: reading their directories, selecting, grouping, ranking, printing."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework.errors import UserError
from framework.runs.compare_command import main
from framework.runs.comparison_table import compare
from framework.runs.finished_run import RunRecord, find_runs
from framework.runs.option_file import OptionFile, scalar
from framework.runs.selection import selecting


def write_run(root: Path, name: str, loss: float | None, *overrides: str, **facts: object) -> Path:
    """Write what a run leaves."""
    path = root / name
    path.mkdir(parents=True)
    given = ["task=mine", *overrides]
    (path / "overrides.yaml").write_text("".join(f"- {text}\n" for text in given))
    (path / "config.yaml").write_text(
        "seed: 0\noptimizer:\n  _target_: keras.optimizers.Adam\n  learning_rate: 0.001\n"
        "trainer:\n  max_epochs: 2\n  precision: 'float32'\n"
    )
    rows = "step,epoch,val/loss\n" + "".join(f"{n},{n},{1 / n}\n" for n in (1, 2))
    (path / "metrics.csv").write_text(rows)
    if loss is not None:
        result = {
            "status": "completed",
            "task": "mine",
            "seconds": 90.0,
            "metrics": {"val/loss": loss, "test/loss": loss + 1, "train/loss": None},
            "best": {"step": 2, "metric": "val/loss", "value": loss},
            "overrides": given,
        }
        (path / "result.json").write_text(json.dumps({**result, **facts}))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    losses = {("0.1", "0"): 0.5, ("0.1", "1"): 0.7, ("0.01", "0"): 0.2, ("0.01", "1"): 0.6}
    for number, ((rate, seed), loss) in enumerate(losses.items()):
        write_run(tmp_path, f"{number}_x", loss, f"seed={seed}", f"optimizer.learning_rate={rate}")
    return tmp_path


def test_only_what_differs_is_shown_and_the_best_comes_first(root: Path) -> None:
    comparison = compare(find_runs(root))
    assert comparison.options == ["seed", "optimizer.learning_rate"]
    assert comparison.metrics == ["val/loss", "test/loss"], "validation before test"
    assert (comparison.objective, comparison.direction) == ("val/loss", "min")
    assert [row.metrics["val/loss"] for row in comparison.rows] == [0.2, 0.5, 0.6, 0.7]
    assert [row.best for row in comparison.rows] == [True, False, False, False]
    assert [row.options["optimizer.learning_rate"] for row in comparison.rows][:2] == [0.01, 0.1]


def test_runs_without_the_objective_are_shown_and_not_ranked(root: Path) -> None:
    write_run(root, "8_early", 0.0, "seed=8", status="failed", metrics={"train/loss": 1.0})
    write_run(root, "9_nothing", None, "seed=9")
    rows = {row.runs[0].name: row for row in compare(find_runs(root), objective="val/loss").rows}
    assert {"8_early", "9_nothing"} <= rows.keys()
    assert [name for name, row in rows.items() if row.best] == ["2_x"]


def test_a_pruned_run_is_never_the_best(root: Path) -> None:
    write_run(root, "9_pruned", 0.1, "seed=5", status="pruned")
    rows = {row.runs[0].name: row for row in compare(find_runs(root)).rows}
    assert rows["9_pruned"].status == "pruned"
    assert [name for name, row in rows.items() if row.best] == ["2_x"]


def test_seeds_are_averaged(root: Path) -> None:
    comparison = compare(find_runs(root), group=["seed"])
    assert comparison.options == ["optimizer.learning_rate"]
    first, second = comparison.rows
    assert first.metrics["val/loss"] == pytest.approx(statistics.fmean([0.2, 0.6]))
    assert first.spread["val/loss"] == pytest.approx(statistics.stdev([0.2, 0.6]))
    assert second.metrics["val/loss"] == pytest.approx(0.6)
    assert (len(first.runs), first.best, second.best) == (2, True, False)


def test_a_run_that_has_a_default_differs_from_one_that_overrides_it(root: Path) -> None:
    write_run(root, "9_default", 0.9, "seed=0")
    rows = {row.runs[0].name: row for row in compare(find_runs(root)).rows}
    assert rows["9_default"].options == {"seed": 0, "optimizer.learning_rate": 0.001}


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("optimizer.learning_rate > 0.05", 2),
        ("optimizer.learning_rate>0.05 and seed=1", 1),
        ("not (seed == 1 or val/loss < 0.3)", 1),
        ("status == completed", 4),
        ("status != 'completed'", 0),
        ("task == mine and time >= 90", 4),
        ("trainer.precision == float32", 4),
        ("best < .55", 2),
    ],
)
def test_runs_are_selected(root: Path, expression: str, count: int) -> None:
    runs = find_runs(root)
    test = selecting(expression, runs)
    assert sum(map(test, runs)) == count


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("seed >", "a value is missing at the end"),
        ("seed", "a comparison is missing"),
        ("(seed > 1", "a bracket is not closed"),
        ("sed > 1", "no run has 'sed'.*seed"),
        ("seed > 1 seed < 2", "'seed' is not expected there"),
        ("3 > seed", "'3' is not a name"),
        ("__import__('os')", "no run has '__import__'"),
    ],
)
def test_mistaken_expressions_are_refused(root: Path, expression: str, message: str) -> None:
    with pytest.raises(UserError, match=f"(?s){message}"):
        selecting(expression, find_runs(root))


@given(st.integers(-5, 5), st.integers(-5, 5), st.sampled_from(["and", "or"]), st.booleans())
def test_expressions_mean_what_python_means(low: int, high: int, word: str, negated: bool) -> None:
    runs = [RunRecord(Path(), str(n), "completed", {"n": n}) for n in range(-5, 6)]
    inner = f"n > {low} {word} n <= {high}"
    test = selecting(f"not ({inner})" if negated else inner, runs)
    for run in runs:
        n = run.overrides["n"]
        true = (n > low and n <= high) if word == "and" else (n > low or n <= high)
        assert test(run) == (true != negated)


def test_every_end_is_told(root: Path) -> None:
    write_run(root, "a_killed", None)
    failed = write_run(root, "b_failed", 0.5, status="failed")
    broken = write_run(root, "c_broken", 0.5)
    (broken / "result.json").write_text('{"status": "comp')
    running = write_run(root, "d_running", None)
    with open(running / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        runs = {run.name: run for run in find_runs(root)}
    assert failed.is_dir()
    found = {name: run.status for name, run in runs.items() if name[1] == "_" and name[0] > "9"}
    assert found == {
        "a_killed": "killed",
        "b_failed": "failed",
        "c_broken": "broken",
        "d_running": "running",
    }
    assert "result.json cannot be read" in runs["c_broken"].problem
    assert runs["a_killed"].overrides == {"task": "mine"}


def test_formats_agree(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(root), "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["runs"]
    assert main([str(root), "--format", "csv"]) == 0
    lines = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [float(line["val/loss"]) for line in lines] == [row["val/loss"] for row in rows]
    assert [row["val/loss"] for row in rows] == [0.2, 0.5, 0.6, 0.7]
    assert main([str(root), "--format", "markdown"]) == 0
    table = capsys.readouterr().out.splitlines()
    assert len(table) == 2 + 4
    assert "**0.2000**" in table[2]
    assert main([str(root)]) == 0
    shown = capsys.readouterr().out
    assert "4 runs in" in shown
    assert shown.index("0.2000") < shown.index("0.5000")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--objective", "val/auc"], "no run has 'val/auc'.*test/loss, val/loss"),
        (["--format", "cvs"], "Did you mean 'csv'"),
        (["--columns", "nothing"], "no run has 'nothing'"),
        (["--sort", "nothing"], "no run has 'nothing'"),
        (["--direction", "up"], "direction is 'up'"),
    ],
)
def test_mistakes_take_one_screen(
    root: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(root), *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") <= 3
    import re

    assert re.search(f"(?s){message}", error)


def test_there_is_nothing_to_compare(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "there are no runs" in capsys.readouterr().err
    assert main([str(tmp_path / "missing")]) == 2
    assert "there is no such directory" in capsys.readouterr().err


def test_a_plot_and_a_page_are_drawn(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    plot, page = root / "p.png", root / "p.html"
    assert main([str(root), "--plot", str(plot), "--html", str(page)]) == 0
    assert plot.read_bytes().startswith(b"\x89PNG")
    text = page.read_text()
    assert text.count("<tr") == 1 + 4
    assert "data:image/png;base64," in text
    assert "http" not in text, "the page needs nothing else"


def test_options_are_read_as_yaml_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("a: 1\nb:\n  c: 'x: y'\n  d:\n    e: 1.0e-05\n  f: null\ng: true\n")
    options = OptionFile(path)
    assert [options.get(key) for key in ("a", "b.c", "b.d.e", "b.f", "g", "b.e")] == [
        *(1, "x: y", 1e-5, None, True, None),
    ]
    assert scalar(".inf") == float("inf")


def test_a_thousand_runs_are_listed_in_a_second_without_tensorflow(tmp_path: Path) -> None:
    for number in range(1000):
        write_run(tmp_path, f"{number}_x", number / 1000, f"seed={number}")
    code = (
        "import sys, time; start = time.process_time()\n"
        "from framework.runs.compare_command import main\n"
        "main([sys.argv[1], '--where', 'optimizer.learning_rate < 1'])\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        "assert time.process_time() - start < 1.0, time.process_time() - start\n"
    )
    start = time.monotonic()
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert out.returncode == 0, out.stderr
    assert "1,000 runs" in out.stdout
    assert time.monotonic() - start < 60
