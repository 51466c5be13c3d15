"""The rate that a range test suggests, for curves whose answer is known."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

from framework.run.rate_curve import RateCurve, diverged_at

RATES = np.geomspace(1e-7, 10, 100)


def curve(losses: np.ndarray, rates: np.ndarray = RATES) -> RateCurve:
    return RateCurve("optimizer", "loss", tuple(rates[: len(losses)]), tuple(losses))


def falling(steepest: float, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """A loss that falls from 3 to 1, most steeply at a rate, and explodes at 100 times that."""
    at = np.log10(RATES / steepest)
    loss = 2 - np.tanh(2 * at) + np.exp(4 * (at - 2))
    return loss + noise * np.random.default_rng(seed).normal(size=len(at))


@pytest.mark.parametrize("steepest", [1e-5, 1e-3, 3e-2])
def test_it_suggests_the_steepest_point(steepest: float) -> None:
    found = curve(falling(steepest)).suggestion
    assert found is not None
    assert abs(np.log10(found / steepest)) < 0.15


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_suggestion_little(seed: int) -> None:
    found = curve(falling(1e-3, noise=0.1, seed=seed)).suggestion
    assert found is not None
    assert abs(np.log10(found / 1e-3)) < 0.5


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_suggests_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=100)
    for losses in (2 + 0.1 * noise, 2 + 0.1 * noise + np.linspace(0, 1, 100) ** 4):
        assert curve(losses).suggestion is None


def test_a_constant_or_rising_loss_suggests_nothing() -> None:
    for losses in (np.ones(100), np.linspace(1, 3, 100), np.array([2.0, 1.0])):
        assert curve(losses).suggestion is None


def test_it_diverges_at_four_times_the_minimum_or_where_it_is_not_finite() -> None:
    assert diverged_at([1.0] * 50) is None
    assert diverged_at([1.0, 1.0, np.nan, 1.0]) == 2
    # By hand: after n ones, the unbiased mean of one more value v is 1 + (v - 1) * w, with
    # w = 0.1 / (1 - 0.9 ** (n + 1)): for n = 50 it exceeds 4 from v = 1 + 3 / w on.
    edge = 1 + 3 * (1 - 0.9**51) / 0.1
    assert diverged_at([1.0] * 50 + [edge - 0.01]) is None
    assert diverged_at([1.0] * 50 + [edge + 0.01]) == 50
    # A critic's loss is below 0: -1 may rise to 2, by 3 times its size.
    assert diverged_at([-1.0] * 50 + [-1 + 3 * (1 - 0.9**51) / 0.1 + 0.01]) == 50


def test_what_is_after_the_divergence_does_not_count() -> None:
    losses = falling(1e-3)
    whole = curve(losses)
    assert curve(np.append(losses[:80], [np.inf, -1e9])).suggestion == pytest.approx(
        whole.suggestion, rel=0.1
    )


def test_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    made = curve(np.append(falling(1e-3)[:80], np.nan))
    assert made.save(tmp_path) == tmp_path / "lr_find.png"
    assert (tmp_path / "lr_find.png").read_bytes()[:4] == b"\x89PNG"
    with (tmp_path / "lr_find.csv").open() as file:
        header, *rows = csv.reader(file)
    assert header == ["learning_rate", "loss"]
    read = np.array(rows, float)
    np.testing.assert_allclose(read, np.column_stack([made.rates, made.losses]), rtol=1e-8)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert made.save(tmp_path, "plain") == tmp_path / "plain.csv"
