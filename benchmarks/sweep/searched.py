"""Searches whose parent is killed, or that three processes share."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.sweep.disturbed import PATIENCE, start, wait_for

COLUMNS = ["search", "exit codes", "trials", "wrong"]
_WORDS = [
    *("-m", "task=short", "search=optuna", "search.pruner=median", "objective=val/error"),
    *("direction=min", "search.pruner_options={n_startup_trials: 2}"),
    "optimizer.learning_rate=tag(log,interval(1e-4,1e-1))",
]


def disturb(
    count: int, directory: Path, say: Callable[[str], None] = lambda line: None
) -> list[list[str]]:
    """Search with so many trials undisturbed, killed twice, and by three processes.

    Args:
        count: How many trials; the parent is killed after about a third and two thirds.
        directory: Where the searches go.
        say: Called with a line now and then.

    Returns:
        Rows of a table; the last column is empty where all is as it should be.
    """
    words = [*_WORDS, f"search.n_trials={count}"]
    folder = directory / "searches"  # the sweeps beside them have names of their own
    folder.mkdir()
    whole, killed, shared = (folder / name for name in ("whole", "killed", "shared"))
    rows = [_row(whole, count, [start(words, whole).wait(PATIENCE)])]
    for wanted in (count * 7 // 20, count * 13 // 20):
        parent = start(words, killed)
        wait_for(lambda wanted=wanted: _ended(killed) >= wanted, parent)  # type: ignore[misc]
        parent.kill()
        parent.wait()
        say(f"search: the parent was killed after {_ended(killed)} trials had ended")
    rows.append(_row(killed, count, [start(words, killed).wait(PATIENCE)]))
    if _values(killed) != _values(whole):
        rows[-1][-1] += " not the trials of the undisturbed one"
    processes = [start(words, shared) for _ in range(3)]
    rows.append(_row(shared, count, [process.wait(PATIENCE) for process in processes]))
    return rows


def missed(rows: list[list[str]]) -> list[str]:
    """Return the searches that did not end as they should."""
    return [f"search_faults: {' '.join(row)}" for row in rows if row[-1]]


def _trials(sweep: Path) -> list[Any]:
    import optuna

    try:
        study = optuna.load_study(study_name=sweep.name, storage=f"sqlite:///{sweep}/study.db")
    except Exception:  # it is not there yet
        return []
    found: list[Any] = study.get_trials()
    return found


def _ended(sweep: Path) -> int:
    return sum(trial.state.is_finished() for trial in _trials(sweep))


def _values(sweep: Path) -> list[Any]:
    return [(trial.params, trial.state, trial.values) for trial in _trials(sweep)]


def _row(sweep: Path, count: int, codes: list[int]) -> list[str]:
    trials = _trials(sweep)
    states = [trial.state.name for trial in trials]
    wrong = []
    if len(trials) != count or not {*states} <= {"COMPLETE", "PRUNED"} or "PRUNED" not in states:
        wrong.append("trials")
    directories = [str(trial.user_attrs.get("run_dir")) for trial in trials]
    if sorted(directories) != sorted(path.name for path in sweep.glob("[0-9]*")):
        wrong.append("run directories")
    for trial, name in zip(trials, directories, strict=True):
        result = json.loads((sweep / name / "result.json").read_text())
        ended = {"PRUNED": "pruned", "COMPLETE": "completed"}.get(trial.state.name)
        if (result["status"], result["metrics"]["val/error"]) != (ended, trial.value):
            wrong.append(name)
    kinds = ", ".join(f"{states.count(kind)} {kind.lower()}" for kind in sorted({*states}))
    codes_wrong = ["exit code"] if any(codes) else []
    return [sweep.name, " ".join(map(str, codes)), kinds, ", ".join([*wrong, *codes_wrong])]
