"""What the loggers of trackers refuse, promise and need."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import Net, blobs, busy_data, make_trainer
from tracked import begin

from framework import Data, Logger, UserError
from framework.callbacks import EMA
from framework.core.commit import commit_of
from framework.loggers import MLflowLogger, WandbLogger


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the loggers believe that their packages are there, as they are imported later."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
def test_a_missing_package_is_one_line_with_the_command(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    kind: Any = {"mlflow": MLflowLogger, "wandb": WandbLogger}[name]
    with pytest.raises(UserError, match=name) as caught:
        kind()
    assert f'pip install "keras-task-framework[{name}]"' in str(caught.value)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    "uri",
    ["http://", "http//x:1", "localhost:5000", "http://x:99999", "http://x:a", "ftp://x", "a:"],
)
def test_a_malformed_address_is_refused(uri: str) -> None:
    with pytest.raises(UserError, match="not the address of an MLflow server"):
        MLflowLogger(uri)


@pytest.mark.usefixtures("installed")
def test_addresses_of_every_kind_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    for uri in (
        "http://127.0.0.1:5000", "https://user@host/path", "sqlite:///runs.db", "databricks",
        "postgresql+psycopg2://host/db", "./mlruns", "file:///tmp/mlruns",
    ):  # fmt: skip
        assert MLflowLogger(uri).tracking_uri == uri
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://:80")
    with pytest.raises(UserError, match="http://:80"):
        MLflowLogger()


@pytest.mark.usefixtures("installed")
def test_the_mode_is_offline_without_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    assert WandbLogger().mode == "offline"
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert WandbLogger().mode == "online"
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert WandbLogger().mode == "offline"
    with pytest.raises(UserError, match="Did you mean 'online'"):
        WandbLogger(mode="onlin")


def test_neither_package_is_imported_before_a_run_starts(tmp_path: Path) -> None:
    pytest.importorskip("mlflow", reason='needs pip install ".[mlflow]"')
    pytest.importorskip("wandb", reason='needs pip install ".[wandb]"')
    code = (
        "import sys; from framework.loggers import MLflowLogger, WandbLogger\n"
        "import framework.trainer; MLflowLogger(); WandbLogger()\n"
        "print({'mlflow', 'wandb'} & set(sys.modules))"
    )
    out, err = begin(["-c", code], tmp_path).communicate(timeout=120)
    assert out == "set()\n", err


def test_a_server_that_is_not_there_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("mlflow", reason='needs pip install ".[mlflow]"')
    logger = MLflowLogger("http://127.0.0.1:9", timeout=60.0)  # the port that discards
    for step in (0, None):
        logger.open(tmp_path, step)
        logger.log_config({}, {"seed": 1})
        began = time.monotonic()
        for row in range(100):
            logger.log_metrics({"train/loss": 1.0}, row, 1)
        logger.log_images("x", np.zeros((1, 2, 2, 1), np.uint8), 5)
        assert time.monotonic() - began < 1
        logger.log_end("completed", {}, None)
        logger.close()
    warnings = [each for each in caplog.records if each.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert warnings[0].getMessage().startswith("MLflow cannot be reached")


class Models(Logger):
    """Keeps the weights that it is given."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int, list[Any]]] = []
        self.ended = False

    def log_model(self, name: str, model: Any, step: int) -> None:
        assert not self.ended
        self.found.append((name, step, model.get_weights()))

    def log_end(self, status: str, metrics: Any, best: Any) -> None:
        self.ended = True


def test_the_model_that_is_logged_is_the_one_that_is_evaluated(tmp_path: Path) -> None:
    logger, task = Models(), Net()
    trainer = make_trainer(
        max_epochs=2, run_dir=tmp_path, loggers=[logger], callbacks=[EMA(decay=0.9)]
    )
    trainer.fit(task, busy_data())
    ((name, step, (kernel, bias)),) = logger.found
    assert (name, step) == ("model", 26)
    assert not np.array_equal(kernel, task.model.get_weights()[0])  # the average is another one
    x = blobs(5)[0]
    logits = trainer.predict(task, Data(test=(x,), batch_size=5))
    np.testing.assert_allclose(logits, x @ kernel + bias, rtol=1e-5)


def test_the_commit_is_gits(tmp_path: Path) -> None:
    def git(*words: str, at: Path = tmp_path) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main"]
        return subprocess.run(
            ["git", *who, *words], cwd=at, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert commit_of(Path("/nowhere/at/all")) is None
    git("init")
    assert commit_of(tmp_path) is None  # no commit yet
    git("commit", "--allow-empty", "-m", "one")
    first = git("rev-parse", "HEAD")
    below = tmp_path / "below"
    below.mkdir()
    assert commit_of(below) == first
    git("pack-refs", "--all")
    assert commit_of(tmp_path) == first
    git("worktree", "add", "-b", "side", "tree")
    git("commit", "--allow-empty", "-m", "two", at=tmp_path / "tree")
    second = git("rev-parse", "HEAD", at=tmp_path / "tree")
    assert second != first
    assert commit_of(tmp_path / "tree") == second
    git("checkout", "--detach", second)
    assert commit_of(tmp_path) == second
