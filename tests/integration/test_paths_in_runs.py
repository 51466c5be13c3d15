"""Options that take a path: `~` is a home directory, an address is refused, and nothing is made."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run, files, project, run
from helpers import blobs, make_trainer

from framework import Data

__all__ = ["project", "run"]

QUICK = ("trainer.max_steps=2", "trainer.engine=graph", "loggers=[]")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    return path


@pytest.mark.parametrize("quote", ["~/r", "'~/r'"])
def test_a_tilde_is_the_home_directory(run: Run, project: Path, home: Path, quote: str) -> None:
    assert run("task=mine", f"run_dir={quote}", *QUICK)[0] == 0
    assert (home / "r/config.yaml").is_file()
    code, out, err = run("task=mine", f"checkpoint={quote}", "run_dir=new", *QUICK[1:])
    assert code == 0, err
    assert "step 2" in out
    assert not any(name.startswith(("~", "my home/~")) for name in files(project))


def test_a_tilde_in_sweep_dir_and_config_dir(run: Run, project: Path, home: Path) -> None:
    (project / "conf").rename(home / "c")
    code, _, err = run("-m", "--config-dir=~/c", "task=mine", "seed=1,2", "sweep_dir=~/s", *QUICK)
    assert code == 0, err
    assert len(list((home / "s").glob("*/result.json"))) == 2
    assert not any("~" in name for name in files(project))


def test_a_tilde_in_python(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from helpers import Net

    monkeypatch.chdir(tmp_path)
    data = Data(train=blobs(16), test=blobs(8), batch_size=8)
    trained = make_trainer(run_dir="~/run", max_epochs=1)
    trained.fit(Net(optimizer="sgd"), data)
    assert (home / "run/result.json").is_file()
    assert not Path("~").exists()
    expected = trained.test(trained.task, data)
    again = make_trainer().test(Net(optimizer="sgd"), data, checkpoint="~/run")
    assert again == expected
    # The run that a checkpoint began is the same, however its path was written.
    for path in ("~/run", str(home / "run")):
        other = make_trainer(run_dir="b", max_epochs=1)
        other.fit(Net(optimizer="sgd"), data, checkpoint=path)
        assert other.already_complete
