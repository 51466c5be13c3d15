"""Paths that cannot be are refused, and addresses wherever a path is taken."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import files
from helpers import make_trainer

from framework import UserError
from framework.checkpoint.store import CheckpointStore
from framework.core.paths import local_path
from framework.datasets.named import load_dataset
from framework.loggers.csv import CSVLogger
from framework.loggers.tensorboard import TensorBoardLogger

ADDRESSES = ["s3://bucket/run", "gs://b", "hdfs:///x", "file:///tmp/x", Path("s3://bucket/run")]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_refused_everywhere_in_python(
    address: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls = [
        lambda: make_trainer(run_dir=address),
        lambda: CheckpointStore(tmp_path / "checkpoints").find(address),  # type: ignore[arg-type]
        lambda: load_dataset("mnist", dir=address),  # type: ignore[arg-type]
        lambda: CSVLogger(address),  # type: ignore[arg-type]
        lambda: TensorBoardLogger(address),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises(UserError, match="not a path on this machine") as caught:
            call()
        assert caught.value.fix
    assert files(tmp_path) == set()


@pytest.mark.parametrize(
    ("given", "what"),
    [("~nobody-here/x", "~nobody-here"), ("a" * 300, "300 bytes"), ("a/" * 3000, "5999 bytes")],
)
def test_a_path_that_cannot_be_is_refused(given: str, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        local_path(given, "run_dir")
    assert caught.value.where == "run_dir"
    assert caught.value.fix
