"""The benchmark runner: every contender learns the same task, and the bars judge."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from benchmarks import __main__ as runner
from benchmarks import (
    contenders,
    evaluation,
    memory,
    peers,
    speed,
    startup,
    steady,
    wgan,
    workloads,
)
from benchmarks.page import Report
from benchmarks.speed import Rates


@pytest.fixture(scope="module")
def small() -> workloads.Workload:
    bars = {"fit": 3.0, "range_loop": 0.95}
    return dataclasses.replace(workloads.one_layer(rows=256), bars=bars)


# `fit_50` wants more batches than that in an epoch, and the peers may not be installed.
ABLE = sorted({*contenders.CONTENDERS} - {"two_devices", "fit_50", "fit_50_xla", *peers.NAMES})


@pytest.fixture(autouse=True)
def short_warm_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contenders, "WARM_STEPS", 2)
    monkeypatch.setattr(contenders, "chosen_engine", lambda workload: "graph")


def rates(small: workloads.Workload, **rates: list[float]) -> Rates:
    return Rates(small, dict.fromkeys(rates, 1), rates)


def test_every_contender_is_timed_in_every_round(small: workloads.Workload) -> None:
    lines: list[str] = []
    result = speed.measure(small, ABLE, rounds=2, steps=3, say=lines.append)
    able = list(result.rates)
    assert sorted(able) == ABLE
    assert set(able) <= set(speed.every_contender())
    for each in result.rates.values():
        assert len(each) == 2
        assert all(rate > 0 and np.isfinite(rate) for rate in each)
    assert len(result.rows()) == len(able)
    assert all(len(row) == len(speed.COLUMNS) for row in result.rows())
    assert len(lines) == len(able) + 2


@pytest.mark.parametrize("name", ABLE)
def test_a_contender_runs_as_many_steps_as_it_is_timed_for(
    name: str, small: workloads.Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras

    built: list[keras.Model] = []
    optimizers: list[Any] = []

    def build() -> keras.Model:
        built.append(small.build())
        return built[-1]

    class Adam(keras.optimizers.Adam):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            optimizers.append(self)

    def task(**parts: Any) -> Any:
        made = small.task(**(parts | {"optimizer": Adam()}))
        made.build_model = build
        return made

    monkeypatch.setattr(keras.optimizers, "Adam", Adam)
    monkeypatch.setattr(
        keras.Model, "compile", _compile_with(keras.Model.compile, Adam), raising=True
    )
    run = contenders.CONTENDERS[name](dataclasses.replace(small, build=build, task=task))
    before = int(optimizers[-1].iterations) if optimizers else None
    seconds = run(5)
    assert seconds > 0
    if before is None:  # the framework trains anew each time: its warm-up and the five
        assert int(optimizers[-1].iterations) == 2 + 5
    else:
        # One step before the watch starts; `fit` is timed from the end of its first batch on.
        assert int(optimizers[-1].iterations) == before + 5 + 1


def test_the_workloads_with_contenders_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    gan = wgan.wgan_gp(rows=64)
    result = speed.measure(gan, rounds=1, steps=2)
    assert list(result.rates) == ["framework", "framework_quiet", "gather_loop"]
    small = workloads.one_layer(rows=64)
    pair = dataclasses.replace(small, contenders=("framework", "two_devices"), bars={})
    assert list(speed.measure(pair, rounds=1, steps=2).rates) == ["framework", "two_devices"]


def _compile_with(compile: Any, adam: Any) -> Any:
    def compiled(self: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        assert optimizer == "adam"
        return compile(self, adam(), *args, **kwargs)

    return compiled


def test_ratios_are_taken_round_by_round_and_judged_by_their_median(
    small: workloads.Workload,
) -> None:
    result = rates(small, framework=[30.0, 60.0, 90.0], fit=[10.0, 30.0, 20.0])
    assert result.ratios("fit") == [3.0, 2.0, 4.5]
    assert result.missed() == []
    row = result.rows()[1]
    assert row == ["fit", "20", "640", "10 to 30", "3.00", "2.00 to 4.50", "3.00"]
    slower = rates(small, framework=[29.0, 60.0, 90.0], fit=[10.0, 30.0, 20.0])
    assert slower.missed() == ["one_layer: 2.90 of fit, wanted 3.00"]


@pytest.mark.parametrize(("framework", "code"), [(100.0, 0), (94.0, 1)])
def test_check_turns_a_missed_bar_into_the_exit_code(
    framework: float,
    code: int,
    small: workloads.Workload,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    result = rates(small, framework=[framework], range_loop=[100.0])
    monkeypatch.setattr(speed, "measure", lambda *args, **options: result)
    assert runner.main(["one_layer", "--rounds", "1", "--check"]) == code
    assert runner.main(["one_layer", "--rounds", "1"]) == 0
    out = capsys.readouterr().out
    assert "python -m benchmarks one_layer --rounds 1 --check" in out
    assert ("missed: one_layer: 0.94 of range_loop, wanted 0.95" in out) == bool(code)


def test_the_best_of_several_is_found_in_each_round(small: workloads.Workload) -> None:
    judged = dataclasses.replace(small, bars={"by_hand": 0.9})
    rounds = {"framework": [9.0, 9.0], "range_loop": [10.0, 4.0], "hand_loop_xla": [5.0, 12.0]}
    result = Rates(judged, dict.fromkeys(rounds, 1), rounds)
    assert result.ratios("by_hand") == [0.9, 0.75]
    assert result.missed() == ["one_layer: 0.82 of by_hand, wanted 0.90"]
    assert result.rows()[-1] == ["by_hand", "", "", "", "0.82", "0.75 to 0.90", "0.90"]


def test_evaluation_and_a_steady_speed_are_judged() -> None:
    seconds = evaluation.measure(None, rounds=1, images=64)
    assert list(seconds) == [
        *("framework: test", "Keras: evaluate", "framework: predict", "Keras: predict")
    ]
    assert len(evaluation.rows(seconds)) == 4
    slow = dict(zip(seconds, ([1.0], [1.9], [1.0], [2.0]), strict=True))
    assert evaluation.missed(slow) == ["evaluation: 1.90 of Keras: evaluate, wanted 2.00"]
    rates = {"first": [100.0, 100.0], "other": [91.0, 88.0]}
    assert steady.missed(rates, 1e6) == ["steady: other has 0.90 of the speed, wanted 0.90"]
    assert steady.missed({"first": [1.0], "other": [1.0]}, 3e7) == [
        "steady: memory grows by 30.0 MB, wanted 20 MB at most"
    ]


def test_the_other_bars() -> None:
    assert startup.missed({"--help": [1.4, 9.0, 1.3], "one training step": [60.0]}) == []
    assert len(startup.missed({"--help": [1.6, 1.6, 1.3]})) == 1
    base = 600_000_000
    assert memory.missed(base, base + 3 * memory.DATA_BYTES) == []
    assert len(memory.missed(base, base + 3 * memory.DATA_BYTES + 10**7)) == 1


def test_an_unknown_workload_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert runner.main(["one_leyer"]) == 2
    assert "unknown workload 'one_leyer'" in capsys.readouterr().err


def test_tables_go_into_a_page_between_their_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n\n<!-- a -->\nold\n<!-- /a -->\n\nafter\n")
    command = f"python -m benchmarks a --data-dir /some/where --write {page}"
    report = Report(Console(file=io.StringIO()), page, command)
    report.table("a: what it is", ["what", "ratio"], [["x", "1.00"], ["y", "2.00"]])
    report.table("b: another", ["what"], [["z"]])
    text = page.read_text()
    assert text.startswith(
        "before\n\n<!-- a -->\nWhat it is. `python -m benchmarks a --data-dir DIR`"
    )
    assert (
        "| what | ratio |\n| --- | ---: |\n| x | 1.00 |\n| y | 2.00 |\n<!-- /a -->\n\nafter" in text
    )
    assert text.endswith("| what |\n| --- |\n| z |\n<!-- /b -->\n")
    assert "old" not in text
    report.table("a: what it is", ["what", "ratio"], [["x", "3.00"]])
    assert page.read_text().count("<!-- a -->") == 1
    assert "1.00" not in page.read_text()
