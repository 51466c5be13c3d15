"""Streams continue where a run was stopped, or say why they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from helpers import StopAt, blobs, differing
from resumed import nested, run, seeded

from framework import Data, UserError


def by_epoch(epoch: int) -> Iterator[Any]:
    x, y = blobs(40, seed=epoch)
    for i in range(0, 40, 8):
        yield x[i : i + 8], y[i : i + 8]


class Reshuffled(keras.utils.PyDataset):
    def __init__(self) -> None:
        super().__init__()
        self.draw, (self.x, self.y) = np.random.RandomState(3), blobs(40)
        self.order = np.arange(40)

    def __len__(self) -> int:
        return 5

    def __getitem__(self, i: int) -> Any:
        rows = self.order[8 * i : 8 * i + 8]
        return self.x[rows], self.y[rows]

    def on_epoch_end(self) -> None:
        self.order = self.draw.permutation(40)


@pytest.mark.parametrize(
    ("make", "step"), [(seeded, 13), (nested, 10), (lambda: by_epoch, 13), (Reshuffled, 13)]
)
def test_streams_continue_exactly(make: Any, step: int, tmp_path: Path) -> None:
    options = {"val_every": None, "max_epochs": 4}
    whole = run(None, data=Data(train=make()), **options)
    run(tmp_path, StopAt(step), data=Data(train=make()), **options)
    trainer = run(tmp_path, data=Data(train=make()), **options)
    assert trainer.progress.step == 20
    assert differing(whole, trainer) == []


def zero_arguments() -> Iterator[Any]:
    return by_epoch(0)


def test_what_cannot_be_continued_is_refused_or_accepted(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be resumed exactly: it is a generator"):
        run(tmp_path / "a", data=Data(train=zero_arguments))
    assert not (tmp_path / "a").exists()
    run(None, data=Data(train=zero_arguments), max_steps=2)  # nothing is kept: nothing is promised
    options = {"val_every": None, "max_epochs": 2, "resume_data": "restart"}
    run(tmp_path / "b", StopAt(7), data=Data(train=zero_arguments), **options)
    trainer = run(tmp_path / "b", data=Data(train=zero_arguments), **options)
    assert trainer.progress.step == 10
