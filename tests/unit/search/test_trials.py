"""Which trial is next, who runs it, and what the study is told, whoever is killed."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import pytest

from framework.errors import UserError
from framework.sweep.claim import claimed
from framework.sweep.record import Objective, SweepRecord

pytest.importorskip("optuna", reason='needs pip install ".[search]"')
from optuna.trial import TrialState

from framework.search.options import SearchOptions
from framework.search.space import space_of
from framework.search.study import Aim, load_study, make_study
from framework.search.trials import Trials

SPACE = ("rate=tag(log,interval(1e-4,1))", "kind=a,b,c")
LOSS = (Objective("val/loss", "min"),)


class Search:
    """A search whose jobs are made up: what they measure is a function of what they vary."""

    def __init__(self, path: Path, *space: str, objectives: Any = LOSS, **options: Any) -> None:
        self.record = SweepRecord(path)
        self.options = SearchOptions.of({"storage": str(path / "journal"), **options})
        self.space = space_of(space or SPACE)
        path.mkdir(exist_ok=True)
        make_study(self.options, path, Aim(self.space, objectives))
        self.record.begin(["task=mine"], [], objectives)
        self.runs: list[str] = []

    def trials(self) -> Trials:
        return Trials(self.record, self.options, self.space, ["task=mine"])

    def run(self, overrides: list[str], status: str = "completed") -> None:
        """Do what a job leaves on the disk."""
        job = self.record.register(overrides)
        self.runs.append(job.directory)
        rate = float(job.overrides[0].partition("=")[2])
        code = {"failed": 1, "refused": 2, "interrupted": 130}.get(status, 0)
        with claimed(self.record, job) as claim:
            claim.begin()
            if status != "killed":
                claim.end(status, code, {"val/loss": (rate - 0.1) ** 2} if not code else {})

    def whole(self) -> Search:
        """Run what is left, in one process."""
        with self.trials() as trials:
            while job := trials.take():
                self.run(job)
                trials.settle()
        return self

    @property
    def found(self) -> list[Any]:
        return load_study(self.options, self.record.path).study.get_trials()


def killed(trials: Trials) -> None:
    """Let go of what a killed process held; the operating system closes its files."""
    Trials.__exit__(trials)


def drawn(search: Search) -> list[Any]:
    return [(t.params, t.state.name, t.values) for t in search.found]


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_a_search_that_is_killed_draws_what_one_that_is_not_draws(
    tmp_path: Path, sampler: str
) -> None:
    if sampler == "cmaes":
        pytest.importorskip("cmaes")
    options = {"n_trials": 14, "sampler": sampler, "seed": 3}
    space = ("rate=interval(0,1)", "width=int(interval(1,9))")
    whole = Search(tmp_path / "whole", *space, **options).whole()
    search = Search(tmp_path / "killed", *space, **options)
    for number in range(14):  # killed in, before and after each of its runs
        for status in ("killed", "interrupted", "completed"):
            trials = search.trials()
            job = trials.take()
            assert job is not None
            search.run(job, status)
            killed(trials)  # nobody has told the study
        assert len(search.found) == number + 1
    assert search.whole().found[13].state == TrialState.COMPLETE
    assert drawn(search) == drawn(whole)
    assert len({str(params) for params, *_ in drawn(whole)}) == 14
    assert search.runs == [each for each in whole.runs for _ in range(3)]


def test_a_sampler_of_another_seed_draws_other_values(tmp_path: Path) -> None:
    one, other = (Search(tmp_path / str(n), n_trials=3, seed=n).whole() for n in (1, 2))
    assert [p["rate"] for p, *_ in drawn(one)] != [p["rate"] for p, *_ in drawn(other)]


def test_processes_that_share_a_study_run_each_trial_once(tmp_path: Path) -> None:
    """Three of them at any step of their work, each killed and started again now and then."""
    chance = random.Random(0)
    search = Search(tmp_path / "s", n_trials=20)
    here: list[tuple[Trials, list[str] | None]] = [(search.trials(), None) for _ in range(3)]
    ended: list[str] = []
    for _ in range(500):
        place = chance.randrange(3)
        trials, job = here[place]
        if chance.random() < 0.1:
            killed(trials)
            here[place] = (search.trials(), None)
        elif job is None:
            here[place] = (trials, trials.take())
        else:
            ending = chance.choice(["completed", "completed", "pruned", "failed", "killed"])
            search.run(job, ending)
            if ending != "killed":
                ended.append(search.runs[-1])
                trials.settle()
                here[place] = (trials, None)
    for trials, _ in here:
        killed(trials)
    search.runs.clear()
    search.whole()
    assert len(ended) == len({*ended, *search.runs}) - len(search.runs)  # nothing ran twice
    states = [trial.state for trial in search.found]
    assert len(states) == 20
    assert all(state.is_finished() for state in states)
    assert {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL} == set(states)
    told = {trial.user_attrs["run_dir"] for trial in search.found}
    entries = {job.directory for job in search.record.read().jobs}
    assert told == entries


def test_a_process_that_has_nothing_to_start_knows_who_is_at_work(tmp_path: Path) -> None:
    search = Search(tmp_path / "s", n_trials=1)
    with search.trials() as one, search.trials() as other:
        job = one.take()
        assert job is not None
        assert other.take() is None
        assert other.elsewhere == [0]
        killed(one)
        assert other.take() == job  # it takes over


def test_a_trial_like_an_earlier_one_gets_what_that_one_measured(tmp_path: Path) -> None:
    search = Search(tmp_path / "s", "rate=0.1,0.5", n_trials=9, sampler="random").whole()
    assert len(search.runs) == 2
    values = {"0.1": 0.0, "0.5": (0.5 - 0.1) ** 2}
    assert [t.value for t in search.found] == [values[t.params["rate"]] for t in search.found]


def test_a_trial_like_one_that_still_runs_waits_for_it(tmp_path: Path) -> None:
    search = Search(tmp_path / "s", "rate=choice(0.1)", n_trials=2)
    with search.trials() as trials, search.trials() as other:
        job = trials.take()
        assert job is not None
        with claimed(search.record, search.record.register(job)) as claim:
            claim.begin()
            assert other.take() is None
            claim.end("completed", 0, {"val/loss": 0.25})
        trials.settle()
        assert other.take() is None
    assert [t.value for t in search.found] == [0.25, 0.25]


def test_a_grid_has_each_point_once(tmp_path: Path) -> None:
    space = ("rate=range(0.1,0.35,0.1)", "kind=a,b")
    search = Search(tmp_path / "s", *space, n_trials=99, sampler="grid").whole()
    points = sorted((round(t.params["rate"], 9), t.params["kind"]) for t in search.found)
    assert points == [(r, k) for r in (0.1, 0.2, 0.3) for k in ("a", "b")]


def test_a_trial_that_ends_without_the_objective_has_failed(tmp_path: Path) -> None:
    search = Search(tmp_path / "s", n_trials=3)
    with search.trials() as trials:
        for status in ("completed", "failed", "refused"):
            job = trials.take()
            assert job is not None
            search.run(job, status)
            trials.settle()
        assert trials.take() is None
        assert str(trials) == "3 of 3 trials have ended, 1 complete, 2 fail"
    assert [t.state.name for t in search.found] == ["COMPLETE", "FAIL", "FAIL"]


@pytest.mark.parametrize("mistake", ["refused", "not measured"])
def test_a_command_that_is_wrong_leaves_no_study(tmp_path: Path, mistake: str) -> None:
    objective = Objective("val/los" if mistake == "not measured" else "val/loss", "min")
    search = Search(tmp_path / "s", objectives=(objective,), n_trials=3)
    with search.trials() as trials:
        job = trials.take()
        assert job is not None
        search.run(job, "refused" if mistake == "refused" else "completed")
        trials.settle()
        assert trials.wrong
        assert trials.take() is None
    if mistake == "not measured":  # the same command finds the job, and is as wrong
        same = Search(tmp_path / "s", objectives=(objective,), n_trials=3)
        with same.trials() as trials:
            assert trials.take() is None
            assert trials.wrong
    right = Search(tmp_path / "s", n_trials=3).whole()
    assert [trial.state.name for trial in right.found] == ["COMPLETE"] * 3
    # The same first trial is drawn again; what it has measured counts now.
    assert right.runs.count(search.runs[0]) == (1 if mistake == "refused" else 0)


def test_no_trial_starts_after_the_timeout(tmp_path: Path) -> None:
    search = Search(tmp_path / "s", n_trials=3, timeout="0.001s")
    with search.trials() as trials:
        time.sleep(0.01)
        assert trials.take() is None
        assert trials.stopped
    assert search.found == []


@pytest.fixture
def studied(tmp_path: Path) -> Path:
    Search(tmp_path / "s", n_trials=1).whole()
    return tmp_path / "s"


@pytest.mark.parametrize(
    ("space", "objectives", "fixed", "said"),
    [
        (["rate=interval(0,1)"], LOSS, (), "there rate log 0.0001 to 1, kind a,b,c; here rate 0"),
        (SPACE, (Objective("val/loss", "max"),), (), "there val/loss min; here val/loss max"),
        (SPACE, (*LOSS, Objective("val/auc", "max")), (), "there nothing; here val/auc max"),
        (SPACE, LOSS, ("seed=3",), "there nothing; here seed=3"),
    ],
)
def test_a_study_of_another_search_is_refused(
    studied: Path, space: Any, objectives: Any, fixed: Any, said: str
) -> None:
    options = SearchOptions.of({"storage": str(studied / "journal")})
    with pytest.raises(UserError) as caught:
        make_study(options, studied, Aim(space_of(space), objectives, fixed))
    assert said in str(caught.value)
    make_study(options, studied, Aim(space_of(SPACE), LOSS))  # it is as it was


def test_a_study_whose_runs_are_elsewhere_is_refused(studied: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    given = {"storage": str(studied / "journal"), "study": "s"}
    with pytest.raises(UserError, match=f"its runs are in {studied}"):
        make_study(SearchOptions.of(given), other, Aim(space_of(SPACE), LOSS))
