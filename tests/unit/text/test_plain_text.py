"""What comes from outside is shown literally: no markup, nothing that acts."""

from __future__ import annotations

import io
import logging
import sys
from pathlib import Path

import pytest
from helpers import acts
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from framework import TrainingFailed, UserError
from framework.callbacks.live_line import Screen
from framework.cli.closed_stdio import lasting_streams
from framework.sweep.claim import Standing
from framework.sweep.record import JobEntry
from framework.sweep.table import print_table
from framework.text.escape import one_line, plain
from framework.text.tables import table

# Clears a screen, sets a title, rings, backs up, hides a line, turns letters round.
HOSTILE = "\x1b[2J\x1b]0;title\x07\x9b31m\b\r\x7f\u202egnp.exe\u2066\u2028\ud800"
MARKUP = ["[bold]b[/bold]", "[/data/a]", "[a]", "[link=x]y", "\\[a]", ":smile:"]


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
    varied = JobEntry(0, "", "0", (f"task.tags={value}",))
    jobs = [
        Standing(varied, "completed", metrics={f"test/{value}": 1.0}),
        Standing(JobEntry(1, "", "1", ()), "refused", 2, error=value),
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
