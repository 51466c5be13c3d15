"""What comes from outside is shown literally: no markup, nothing that acts on a terminal."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from cli_project import Run, project, run
from helpers import Net, blobs, make_trainer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from framework import Data, TrainingFailed, UserError
from framework.callbacks.display import Screen
from framework.callbacks.model_summary import ModelSummary
from framework.callbacks.progress_bar import ProgressBar
from framework.cli.job import Outcome
from framework.cli.stdio import lasting_streams
from framework.cli.sweep import SweepJob, print_table
from framework.text.plain import one_line, plain
from framework.text.tables import table

__all__ = ["project", "run"]

# Clears a screen, sets a title, rings, backs up, hides a line, turns letters round.
HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\b\r\x7f\u202egnp.exe\u2066\u2028\ud800"
MARKUP = ["[bold]b[/bold]", "[/data/a]", "[a]", "[link=x]y", "\\[a]", ":smile:"]
QUICK = ("trainer.max_steps=2", "trainer.engine=graph")


def acts(text: str) -> list[str]:
    """Characters that a terminal would act on, rather than show."""
    kinds = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return [
        c
        for c in text.replace("\n", "").replace("\t", "")
        if c < " "
        or "\x7f" <= c < "\xa0"
        or unicodedata.bidirectional(c) in kinds | {"B"}
        or "\ud800" <= c < "\ue000"
        or c == "\u2028"
    ]


@given(st.text(st.characters()))
def test_nothing_acts_and_what_is_harmless_stays(text: str) -> None:
    shown = plain(text)
    assert not acts(shown)
    assert plain(shown) == shown
    assert "\n" not in one_line(text)
    if text.isprintable():
        assert shown == text


def test_plain_text_is_left_as_it_is() -> None:
    text = "größe 語 \u200d👩\u200d🔬\n\tعربى [x] \\ 'q'"
    assert plain(text) == text
    assert plain(HOSTILE).startswith("\\x1b[2J\\x1b]0;title\\x07\\x9b31m\\x08\\r\\x7f\\u202egnp")


@pytest.mark.parametrize("value", [*MARKUP, HOSTILE])
def test_tables_show_values_literally(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = table([value, "b"], [[value, 1]])
    assert shown.count(one_line(value)) == 2
    jobs = [
        SweepJob(0, (f"task.tags={value}",), Outcome(metrics={f"test/{value}": 1.0})),
        SweepJob(1, (), Outcome(2, "refused", error=value)),
    ]
    print_table(jobs, Path(f"runs/{value}"))
    out = capsys.readouterr().out
    assert not acts(out)
    if value != HOSTILE:  # which is too long for one line of a cell
        assert f"task.tags={value}" in out
        assert f"test/{value}" in out


@pytest.mark.parametrize("kind", [UserError, TrainingFailed])
def test_errors_are_plain(kind: type[UserError]) -> None:
    assert not acts(str(kind(HOSTILE, where=HOSTILE, fix=HOSTILE)))


def test_log_messages_are_plain_for_every_handler(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("framework")
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log.addHandler(handler)
    try:
        log.warning("read %s: 100%%", HOSTILE)
    finally:
        log.removeHandler(handler)
    assert not acts(stream.getvalue())
    assert stream.getvalue().endswith("\\ud800: 100%\n")


class Named(Net):
    """Names of its own for everything that is shown."""

    def __init__(self, name: str) -> None:
        super().__init__(optimizer="sgd")
        self.name = name

    def eval_step(self, batch: tuple[np.ndarray, np.ndarray]) -> None:
        super().eval_step(batch)
        self.log(self.name, 1.0)


@pytest.mark.parametrize("live", [True, False])
def test_the_bar_and_the_summary_are_plain(live: bool) -> None:
    stream = io.StringIO()
    console = Console(
        file=stream, force_terminal=live, width=200, color_system=None, legacy_windows=False
    )
    bar, summary = ProgressBar(console, live=live), ModelSummary(console=console)
    data = Data(train=blobs(16), val=blobs(8), batch_size=8)
    name = "[red]m[/red]\x1b[2J\x07"
    make_trainer(callbacks=[bar, summary], max_epochs=1).fit(Named(name), data)
    out = stream.getvalue()
    assert "val [red]m[/red]\\x1b[2J\\x07 1.0000" in out
    assert "\x1b[2J" not in out
    assert "\x07" not in out


def test_a_whole_run_is_plain(run: Run, project: Path) -> None:
    (project / "conf/task/evil\x1b[2J.yaml").write_text("# A \x1b]0;t\x07 task.\n")
    mine = (project / "cliproj/mine.py").read_text()
    mine = mine.replace('raise RuntimeError("boom', 'raise RuntimeError("\\x1b[2J[/b]boom')
    (project / "cliproj/mine.py").write_text(mine)
    calls = {
        ("--help",): 0,
        ("task=mine", "+task.fail='\x1b[2J'", "run_dir='r[/x]'", *QUICK): 0,
        ("task=mine", "+task.fail='[/b]\u202e'", "run_dir='r[/x]'", *QUICK): 2,
        ("task=mine", "+task.fail=epoch", "run_dir=e", *QUICK): 1,
        ("task=mine", "+task.fail=epoch", "debug=true", "run_dir=d", *QUICK): 1,
        ("-m", "task=mine", "+task.fail='\x1b[2J','[/data]'", "sweep_dir='s[/b]'", *QUICK): 0,
        ("task=mine\x1b[2J",): 2,
        ("task=mine", "trainer.max\x1bepochs=1"): 2,
    }
    for words, expected in calls.items():
        code, out, err = run(*words, plain=words == ("--help",))
        assert not acts(out + err), words
        assert code == expected, err
    logs = [path.read_text() for path in project.rglob("log.txt")]
    assert any("\\x1b[2J[/b]boom" in text for text in logs)
    assert not any(map(acts, logs))


def test_a_reader_that_goes_does_not_end_a_run(project: Path) -> None:
    words = "task=mine trainer.max_epochs=3 trainer.engine=graph run_dir=r"
    command = f"{sys.executable} -m framework {words} 2>&- | head -1"  # and no standard error
    subprocess.run(["bash", "-c", command], capture_output=True, timeout=600)
    assert '"status": "completed"' in (project / "r/result.json").read_text()
    assert "test/loss" in (project / "r/metrics.csv").read_text()
    assert "oneDNN" not in (project / "r/log.txt").read_text()


class Gone(io.StringIO):
    """A pipe whose reader has gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


def test_streams_and_consoles_outlive_their_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Gone())
    Screen(file=Gone()).print("a")
    with lasting_streams():
        print("a", flush=True)
        Console().print("b")
    ascii_only = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", ascii_only)
    with lasting_streams():
        print("ü")
    assert ascii_only.buffer.getvalue() == b"\\xfc\n"  # type: ignore[attr-defined]
