"""A hopeless trial ends at a validation, as the pruner says, and stays pruned."""

from __future__ import annotations

import statistics
from pathlib import Path

import pytest
from fake_run import Clock, FakeTrainer

from framework.errors import UserError
from framework.sweep.record import Objective, SweepRecord

pytest.importorskip("optuna", reason='needs pip install ".[search]"')
from framework.search.options import SearchOptions
from framework.search.pruning import Pruning, check_prunable, pruning_of
from framework.search.space import space_of
from framework.search.study import Aim, load_study, make_study
from framework.search.trials import Trials

EARLIER = ([0.9, 0.7, 0.5], [0.8, 0.6, 0.45], [0.95, 0.4, 0.3])
LOSS = (Objective("val/loss", "min"),)


def options_in(path: Path, pruner: str = "median") -> SearchOptions:
    given = {"n_trials": 9, "pruner": pruner, "storage": str(path / "journal")}
    return SearchOptions.of({**given, "pruner_options": {"n_startup_trials": 3}})


@pytest.fixture
def callback(tmp_path: Path) -> Pruning:
    """The callback of a fourth trial, after three that have ended."""
    options, space = options_in(tmp_path), space_of(["rate=interval(0,1)"])
    make_study(options, tmp_path, Aim(space, LOSS))
    record = SweepRecord(tmp_path)
    record.begin([], [], LOSS)
    study = load_study(options, tmp_path).study
    for values in EARLIER:
        trial = study.ask()
        for step, value in enumerate(values, 1):
            trial.report(value, step)
        study.tell(trial, values[-1])
    job = Trials(record, options, space, []).take()
    assert job is not None
    (made,) = pruning_of(options, tmp_path, record.register(job), LOSS)
    return made


def validated(callback: Pruning, *losses: float, steps: int | None = None) -> FakeTrainer:
    run = FakeTrainer(max_steps=steps)
    callback.on_fit_start(run)
    for loss in losses:
        run.train(callback, 100, Clock(), 1.0)
        run.validate(callback, Clock(), 1.0, loss=loss)
        if run.stop_reason:
            break
    return run


def test_the_median_of_what_earlier_trials_had_there_decides(callback: Pruning) -> None:
    medians = [statistics.median(values) for values in zip(*EARLIER, strict=True)]
    assert medians == [0.9, 0.6, 0.45]
    run = validated(callback, 0.9, 0.6, 0.46)  # the median itself is good enough
    assert (run.status, run.progress.step) == ("pruned", 300)
    assert run.stop_reason == "val/loss 0.46 at validation 3 was too bad"


def test_a_good_one_and_one_at_its_end_are_not_pruned(callback: Pruning) -> None:
    assert validated(callback, 0.5, 0.4, 0.3).status == "running"
    assert validated(callback, 0.99, steps=100).status == "running"


def test_a_resumed_run_counts_on_and_stays_pruned(tmp_path: Path, callback: Pruning) -> None:
    validated(callback, 0.9, 0.6)
    state = callback.state()
    again = Pruning(load_study(options_in(tmp_path), tmp_path), 3, "val/loss", "min")
    again.load_state(state)
    run = validated(again, 0.46)
    assert run.stop_reason.endswith("at validation 3 was too bad")
    third = FakeTrainer()
    again.load_state(again.state())
    again.on_fit_start(third)
    assert third.status == "pruned"


@pytest.mark.parametrize(
    ("metrics", "said"),
    [(["val/loss", "val/auc"], "not by several"), (["test/loss"], "do not measure test/loss")],
)
def test_what_cannot_be_pruned_is_refused(tmp_path: Path, metrics: list[str], said: str) -> None:
    objectives = tuple(Objective(metric, "min") for metric in metrics)
    check_prunable(options_in(tmp_path, "none"), objectives)
    with pytest.raises(UserError, match=said):
        check_prunable(options_in(tmp_path), objectives)
