"""Tuning of engines stays within its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from framework.config import TrainerConfig
from framework.loop import tuning
from framework.loop.tuning import Tuner
from framework.loop.tuning_cache import TuningCache, cache_directory


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "keras-task-framework" / "engines.json"


class Fake:
    """A loop that takes a millisecond a step, or whatever a variant is said to take."""

    def __init__(self, clock: list[float], variant: str = "graph", **_: Any) -> None:
        self.clock, self.variant = clock, variant

    def trace(self, stop: int | None = None) -> None:
        self.clock[0] += 3.0 if self.variant != "graph" else 0.5


@pytest.mark.parametrize(
    ("planned", "max_time", "seconds"),
    [(10_000, None, 1.0), (1_000_000, None, 20.0), (1_000_000, "30s", 3.0), (None, "60s", 6.0)],
)
def test_measuring_takes_a_tenth_of_the_run_and_20_seconds_at_most(
    planned: int | None, max_time: str | None, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_seconds", lambda loop, steps: steps * 1e-3)
    monkeypatch.setattr(tuning, "_first_part", lambda loop: 10**9)
    config = TrainerConfig(max_time=max_time, engine="auto")
    tuner = Tuner(config, None, {}, planned=planned)  # type: ignore[arg-type]
    speed, budget = tuner._budget(None)  # type: ignore[arg-type]
    assert speed == pytest.approx(1000.0)
    assert budget == pytest.approx(seconds)


def test_what_cannot_be_compiled_in_time_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    made: list[str] = []

    class Slow(Fake):
        source = step = None

        def __init__(self, *args: Any, variant: str, **_: Any) -> None:
            super().__init__(clock, variant)
            made.append(variant)

    monkeypatch.setattr(tuning, "Loop", Slow)
    monkeypatch.setattr(tuning, "_first_part", lambda loop: 100)
    monkeypatch.setattr(tuning, "_seconds", lambda loop, steps: steps * 1e-3)
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: clock[0])
    tuner = Tuner(TrainerConfig(engine="auto"), None, {}, planned=10)  # type: ignore[arg-type]
    for end, expected in ((2.0, []), (4.0, ["loop_xla"]), (8.0, ["loop_xla", "step_xla"])):
        clock[0], made[:] = 0.0, []
        graph: Any = Slow(variant="graph")
        made.clear()
        tuner._compiled(graph, speed=1e6, end=end, compiling=2.5)
        assert made == expected


def test_a_continued_run_keeps_its_variant() -> None:
    class Loops:
        variant = ""

    loop: Any = Loops()
    tuner = Tuner(TrainerConfig(engine="auto"), None, {1: loop}, planned=10)  # type: ignore[arg-type]
    tuner.begin(kept="step_xla")
    tuner.finish()
    assert loop.variant == "step_xla"
    assert tuner.report == {}  # `result.json` keeps what the run was started with


def test_auto_is_the_default() -> None:
    assert TrainerConfig().engine == "auto"


def test_the_cache_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_directory() == tmp_path / "keras-task-framework"
    monkeypatch.setenv("HOME", "/home/somebody")
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_directory() == Path("/home/somebody/.cache/keras-task-framework")
    remembered = TuningCache(tmp_path / "a" / "b.json")
    remembered.put({"n": 1}, {"variant": "graph"})
    remembered.put({"n": 2}, {"variant": "loop_xla"})
    assert remembered.get({"n": 1}) == {"variant": "graph"}
    assert remembered.get({"n": 3}) is None
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.json"]
    remembered.path.write_text("[1]")
    assert remembered.get({"n": 1}) is None
