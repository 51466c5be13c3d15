"""Checkpoints of another model, or of strange parts, given to whole runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cli_project import Run, project, run
from helpers import Net, blobs, dense, make_trainer, noisy
from store_damage import resigned

from framework import Data
from framework.checkpoint import safe_arrays as reading
from framework.errors import UserError

__all__ = ["project", "run"]


def test_a_checkpoint_of_another_model_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Data(train=blobs(16), test=blobs(16), batch_size=8)
    make_trainer(max_steps=1, run_dir=tmp_path).fit(Net(dense), data)
    monkeypatch.setattr(reading, "_fill", lambda *_: pytest.fail("read"))
    for use in (
        lambda: make_trainer(max_steps=2, run_dir=tmp_path).fit(Net(noisy), data),
        lambda: make_trainer(max_steps=2, run_dir=tmp_path).test(Net(noisy), data),
    ):
        with pytest.raises(UserError, match="variables for the model"):
            use()


@pytest.mark.parametrize("value", [[], None, 1, "x"])
def test_a_state_of_strange_parts_is_answered_on_one_screen(
    run: Run, project: Path, value: Any
) -> None:
    fit = ("task=mine", "run_dir=a", "trainer.engine=graph", "loggers=[]")
    assert run(*fit)[0] == 0
    (path,) = (project / "a/checkpoints").glob("step-*")
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps(dict.fromkeys(state, value)))
    resigned(path)
    for words in ((*fit, "trainer.max_epochs=2"), ("mode=test", "run_dir=a")):
        code, _, err = run(*words)
        assert code == 2, err
        assert "fix:" in err
        assert len(err.splitlines()) < 8
