"""Paths on the command line: addresses refused, `~` and quotes as typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from cli_project import Run, files, project, run
from helpers import make_trainer
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from framework import UserError
from framework.cli.quoting import value_of, with_quoted_paths
from framework.sweep.plan import job_name

__all__ = ["project", "run"]

QUICK = ("trainer.max_steps=2", "trainer.engine=graph", "loggers=[]")


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
        override = with_quoted_paths(f"a.b={path}")
        assert parse(override).value() == path == value_of(override)
    if paths:
        assert parse(with_quoted_paths(f"a=[{','.join(paths)}]")).value() == paths


def test_what_is_quoted_or_no_value_stays() -> None:
    for text in ("a='~/x'", 'a="~/x"', "~a", "~a=b", "a=b", "a", "a=${oc.env:X,'~/d'}"):
        assert with_quoted_paths(text) == text
    assert with_quoted_paths("a=~/x/${oc.env:U,v}") == "a='~/x/${oc.env:U,v}'"
    assert with_quoted_paths("a=~/a,~/b") == "a='~/a','~/b'"
    assert with_quoted_paths("a={k:~/v}") == "a={k:'~/v'}"


def test_a_job_of_a_sweep_is_named_as_a_shell_completes_it() -> None:
    parse = OverridesParser.create().parse_override
    path = "runs/s/0_optimizer.learning_rate=0.093941_seed=1"
    assert parse(with_quoted_paths(f"run_dir={path}")).value() == path
    assert with_quoted_paths(f"run_dir={path},b") == f"run_dir='{path}',b"
    assert parse(with_quoted_paths("storage=postgresql://u@h/db?a=b")).value()[-3:] == "a=b"
    for text in ("a=range(start=1,stop=3)", "a='b=c'", "a={b: c}", "a=[b,c]", "a=${b}"):
        assert with_quoted_paths(text) == text
