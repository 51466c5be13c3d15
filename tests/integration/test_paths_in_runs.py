"""Options that take a path: `~` is a home directory, an address is refused, and nothing is made."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_project import Run, files, project, run
from helpers import blobs, make_trainer
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from framework import Data, UserError
from framework.checkpoint.store import CheckpointStore
from framework.cli.sweep import job_name
from framework.cli.words import value_of, with_quoted_tildes
from framework.core.paths import local_path
from framework.datasets.named import load_dataset
from framework.loggers.csv import CSVLogger
from framework.loggers.tensorboard import TensorBoardLogger

__all__ = ["project", "run"]

ADDRESSES = ["s3://bucket/run", "gs://b", "hdfs:///x", "file:///tmp/x", Path("s3://bucket/run")]
QUICK = ("trainer.max_steps=2", "trainer.engine=graph", "loggers=[]")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my home"
    path.mkdir()
    monkeypatch.setenv("HOME", str(path))
    return path


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
    "words",
    [
        ("run_dir=s3://b/r",),
        ("-m", "sweep_dir=s3://b/r", "seed=1,2"),
        ("checkpoint=gs://b/r",),
        ("mode=test", "run_dir='s3://b/r'"),
        ("data=mnist", "data.dir=s3://b/data"),
        ("--config-dir", "s3://b/conf"),
        ("--config-dir=s3://b/conf",),
    ],
)
def test_an_address_is_refused_everywhere_on_the_command_line(
    run: Run, project: Path, words: tuple[str, ...]
) -> None:
    before = files(project)
    code, _, err = run("task=parts", *words, *QUICK)
    assert code == 2
    assert "not a path on this machine" in err
    assert "fix:" in err
    assert files(project) == before


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


@pytest.mark.parametrize(
    ("given", "what"),
    [("~nobody-here/x", "~nobody-here"), ("a" * 300, "300 bytes"), ("a/" * 3000, "5999 bytes")],
)
def test_a_path_that_cannot_be_is_refused(given: str, what: str) -> None:
    with pytest.raises(UserError, match=what) as caught:
        local_path(given, "run_dir")
    assert caught.value.where == "run_dir"
    assert caught.value.fix


def test_a_deleted_working_directory_is_named(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = project / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, _, err = run("task=mine", "run_dir=r")
    assert code == 2
    assert "working directory was deleted" in err
    with pytest.raises(UserError, match="working directory was deleted"):
        make_trainer(run_dir="r")


def test_names_of_jobs_fit_a_file_system() -> None:
    for value in ("x" * 400, "ü" * 200, "語" * 300):
        name = job_name(12, (f"task.name={value}", "seed=1"))
        assert len(os.fsencode(name)) < 200
        assert name != job_name(12, (f"task.name={value}", "seed=2"))


WORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="'\"\\[]{}(),:=$%\n\t \r;"), min_size=1
)


@given(st.lists(WORDS.map(lambda word: f"~/{word}".rstrip()), min_size=1, max_size=3))
def test_every_tilde_reaches_hydra_as_typed(paths: list[str]) -> None:
    paths = [path for path in paths if path.isprintable()]
    parse = OverridesParser.create().parse_override
    for path in paths:
        override = with_quoted_tildes(f"a.b={path}")
        assert parse(override).value() == path == value_of(override)
    if paths:
        assert parse(with_quoted_tildes(f"a=[{','.join(paths)}]")).value() == paths


def test_what_is_quoted_or_no_value_stays() -> None:
    for text in ("a='~/x'", 'a="~/x"', "~a", "~a=b", "a=b", "a", "a=${oc.env:X,'~/d'}"):
        assert with_quoted_tildes(text) == text
    assert with_quoted_tildes("a=~/x/${oc.env:U,v}") == "a='~/x/${oc.env:U,v}'"
    assert with_quoted_tildes("a=~/a,~/b") == "a='~/a','~/b'"
    assert with_quoted_tildes("a={k:~/v}") == "a={k:'~/v'}"
