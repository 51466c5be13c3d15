"""What a sweep shows: ranks, times left, lines with numbers, shares of the cores."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from framework.errors import UserError
from framework.sweep.child import gpus_here, share_of
from framework.sweep.claim import Standing
from framework.sweep.display import SweepDisplay
from framework.sweep.numbered import numbered_output
from framework.sweep.record import JobEntry, Objective
from framework.sweep.table import best_of, check_measured, ranked


def job(number: int) -> JobEntry:
    return JobEntry(number, str(number), f"{number}_seed={number}", (f"seed={number}",))


def done(number: int, **metrics: float) -> Standing:
    named = {name.replace("_", "/"): value for name, value in metrics.items()}
    return Standing(job(number), "completed", metrics=named)


@pytest.mark.parametrize(("direction", "order"), [("max", [2, 0, 4]), ("min", [0, 4, 2])])
def test_jobs_are_ranked_and_those_without_a_value_come_last(
    direction: str, order: list[int]
) -> None:
    objectives = [Objective("val/auc", direction)]
    failed = Standing(job(1), "failed", 1, {"val/auc": 0.99})
    jobs = [done(0, val_auc=0.5), failed, done(2, val_auc=0.9), done(3), done(4, val_auc=0.5)]
    assert [s.job.number for s in ranked(jobs, objectives)] == [*order, 1, 3]
    assert [s.job.number for s in best_of(jobs, objectives)] == [order[0]]
    assert best_of([failed], objectives) == []


def test_of_several_objectives_the_jobs_that_no_other_beats_come_first() -> None:
    objectives = [Objective("val/auc", "max"), Objective("val/loss", "min")]
    points = [(0.5, 0.2), (0.7, 0.3), (0.6, 0.4), (0.9, 0.9), (0.7, 0.3)]
    jobs = [done(n, val_auc=auc, val_loss=loss) for n, (auc, loss) in enumerate(points)]
    # What a pruned run has measured was measured too early to count.
    jobs.append(Standing(job(5), "pruned", metrics={"val/auc": 0.99, "val/loss": 0.0}))
    beaten = {
        n
        for n, (auc, loss) in enumerate(points)
        if any(a >= auc and x <= loss and (a, x) != (auc, loss) for a, x in points)
    }
    assert beaten == {2}
    assert [s.job.number for s in best_of(jobs, objectives)] == [0, 1, 3]  # 4 is 1 again
    assert [s.job.number for s in ranked(jobs, objectives)] == [3, 1, 0, 4, 2, 5]


def test_a_metric_that_no_run_measures_is_refused_with_those_there_are() -> None:
    jobs = [done(0, val_loss=0.5, val_accuracy=0.5), Standing(job(1))]
    check_measured(jobs, [Objective("val/loss", "min")])
    check_measured([Standing(job(1), "failed", 1)], [Objective("val/auc", "max")])
    with pytest.raises(UserError) as caught:
        check_measured(jobs, [Objective("val/acuracy", "max")])
    assert "Did you mean 'val/accuracy'" in str(caught.value)


def test_lines_tell_what_is_done_and_how_long_it_takes(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with SweepDisplay(4, 2, [Objective("val/auc", "max")], clock=lambda: now[0]) as display:
        display.started(job(0))
        display.started(job(1))
        display.say(1, "epoch 1")
        display.say(1, "a warning", error=True)
        now[0] = 30.0
        display.ended(done(0, val_auc=0.75))
        display.ended(Standing(job(1), "killed", 137))
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "#0  seed=0",
        "#1  seed=1",
        "#1  epoch 1",
        "#0  completed.  1 of 4 done, best #0 with val/auc 0.7500, about 0:45 left",
        "#1  killed (137).  2 of 4 done, 1 without a result, best #0 with val/auc 0.7500, "
        "about 0:30 left",
    ]
    assert err == "#1  a warning\n"


def test_a_terminal_shows_what_runs() -> None:
    now, screen = [0.0], Console(file=io.StringIO(), force_terminal=True, width=80)
    with SweepDisplay(3, 2, (), screen, clock=lambda: now[0]) as display:
        display.started(job(7))
        display.say(7, "epoch 2  loss 0.1")
        now[0] = 75.0
    text = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "1:15" in text
    assert "0 of 3 done" in text
    assert "#7  epoch 2  loss 0.1" in text


def test_every_line_of_a_job_carries_its_number(capsys: pytest.CaptureFixture[str]) -> None:
    with numbered_output(12):
        print("a\nb", end="")
        print("c")
        print()
    print("d")
    assert capsys.readouterr().out == "#12  a\n#12  bc\n#12  \nd\n"


def test_shares_of_the_cores_are_disjoint_and_complete() -> None:
    for count in (2, 3, 8, 17):
        cores = list(range(count))
        for slots in range(2, count + 1):
            shares = [share_of(cores, slot, slots) for slot in range(slots)]
            assert sorted(c for share in shares for c in share) == cores
            assert max(map(len, shares)) <= math.ceil(count / slots)
            assert min(map(len, shares)) >= 1
    assert share_of([0, 1], 2, 3) == ()
    assert share_of([0, 1], 0, 1) == ()


def test_gpus_are_those_that_cuda_may_use() -> None:
    assert gpus_here({"CUDA_VISIBLE_DEVICES": "2, GPU-ab"}) == ["2", "GPU-ab"]
    assert (
        gpus_here({"CUDA_VISIBLE_DEVICES": "-1"}) == gpus_here({"CUDA_VISIBLE_DEVICES": ""}) == []
    )
