"""Checkpoints: whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from framework import UserError
from framework.checkpoint.retention import Retention
from framework.checkpoint.store import CheckpointStore, signed

STATE = {
    "progress": {"step": 7, "seconds": 0.5},
    "weights": {"a/b:0": np.arange(6, dtype="float32").reshape(2, 3), "empty": np.zeros((0, 2))},
    "half": np.array([1.5, -0.0, np.inf, np.nan], dtype=ml_dtypes.bfloat16),
    "flags": [True, None, "text", 1, [np.int64(3), np.array(2.5)]],
    "scalar": np.float64(0.1),
    "names": {},
}


def assert_same(left: Any, right: Any) -> None:
    assert type(left) is type(right) or isinstance(right, np.generic)
    if isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, list):
        for one, two in zip(left, right, strict=True):
            assert_same(one, two)
    elif isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        assert left.shape == right.shape
        assert left.tobytes() == right.tobytes()
    else:
        assert left == right


def test_a_state_comes_back_bit_for_bit(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "checkpoints")
    path = store.save(7, STATE)
    assert path.name == "step-00000007"
    assert_same(store.load(path), STATE)
    assert {p.name for p in path.iterdir()} == {"arrays.npz", "state.json", "manifest.json"}
    with np.load(path / "arrays.npz", allow_pickle=False) as arrays:  # nothing is pickled
        assert all(arrays[name].dtype != object for name in arrays)


def test_a_name_that_an_array_marker_uses_is_no_trouble(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    state = {"dtype": "x", "nested": {"array": np.ones(2)}}
    assert_same(store.load(store.save(1, state)), state)


@pytest.mark.parametrize("file", ["arrays.npz", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, file: str, damage: str) -> None:
    store = CheckpointStore(tmp_path)
    path = store.save(7, STATE)
    whole = (path / file).read_bytes()
    if damage == "flip":
        at = whole.index(b"sha256") + 15 if file == "manifest.json" else len(whole) // 2
        (path / file).write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    elif damage == "cut":
        (path / file).write_bytes(whole[:-9])
    else:
        (path / file).unlink()
    with pytest.raises(UserError) as error:
        store.load(path)
    assert "cannot be read" in error.value.what
    assert error.value.where == str(path)


def test_a_format_of_the_future_is_refused(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    path = store.save(7, STATE)
    manifest = json.loads((path / "manifest.json").read_text())
    del manifest["sha256"]
    (path / "manifest.json").write_text(signed(manifest | {"format": 99}))
    with pytest.raises(UserError, match="format 99"):
        store.load(path)


def test_a_checkpoint_is_found_by_a_word(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    for word in ("last", "best", "5", str(tmp_path / "nowhere")):
        with pytest.raises(UserError, match="there is no checkpoint"):
            store.find(word)
    for step in (100, 5, 20):
        store.save(step, STATE)
    store.save(20, STATE, judged={"metric": "val/loss", "value": 0.5, "mode": "min"})
    assert store.steps() == [5, 20, 100]
    assert store.find("last") == store.path(100)
    assert store.find("best") == store.path(20)
    assert store.find("5") == store.path(5)
    assert store.find(str(store.path(5))) == store.path(5)
    assert store.favourite() == store.path(20)
    assert store.best() == {"step": 20, "metric": "val/loss", "value": 0.5}
    with pytest.raises(UserError) as error:
        store.find("6")
    assert "5, 20, 100" in str(error.value.fix)
    store.tidy(Retention(last=1, best=0), step=5)
    assert store.steps() == [5]
    with pytest.raises(UserError, match="'best'"):
        store.find("best")


def test_what_was_not_written_whole_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, STATE)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        store.save(2, STATE)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    with pytest.raises(OSError, match="No space"):
        store.save(1, STATE)
    assert_same(store.load(store.path(1)), STATE)


def test_a_state_that_no_file_can_hold_is_named(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    with pytest.raises(UserError, match="a set in a state") as error:
        store.save(1, {"callbacks": {"Mine-0": {"seen": {1, 2}}}})
    assert error.value.where == "/callbacks/Mine-0/seen"
    with pytest.raises(UserError, match="the key 3 in a state"):
        store.save(1, {"callbacks": {3: 1}})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_is_replaced_is_never_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path)
    store.save(1, {"a": 1})
    child = os.fork()
    if not child:  # killed between taking the old one away and putting the new one there
        os.replace = lambda *_: os._exit(9)  # type: ignore[assignment]
        store.save(1, {"a": 2})
    os.waitpid(child, 0)
    assert store.steps() == []
    (tmp_path / ".step-00000002-77").mkdir()  # and one half-written
    store.recover()
    assert store.load(store.find("last")) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_names_that_are_no_checkpoints_are_left_alone(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path)
    store.save(99_999_999, {"a": 1})
    store.save(100_000_000, {"a": 2})  # more digits than the others: not by their letters
    (tmp_path / "step-00000005-copy").mkdir()
    assert store.steps() == [99_999_999, 100_000_000]
    assert store.load(store.find("last")) == {"a": 2}
