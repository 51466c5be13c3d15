"""A value from the environment is used and compared, and never written."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_project import Run, project, run

from framework.text.escape import hidden

__all__ = ["project", "run"]

SECRET = "hunter2-Zq81"
QUICK = ("trainer.engine=graph", "trainer.max_steps=1")


@pytest.fixture
def tokens(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A task whose file refers to the environment in every way there is."""
    source = (project / "cliproj/mine.py").read_text()
    source = source.replace(
        "class Half(",
        """class Token(Mine):
    seen = []

    def __init__(self, token, url, more=None, leak=False, **parts):
        super().__init__(**parts)
        Token.seen.append((token, url, more, self.units))
        if leak:
            raise ValueError(f"the server refused {token} and {url}")

    def on_epoch_start(self):
        if self.fail == "leak":
            raise RuntimeError(f"the server refused {Token.seen[-1][0]}")


class Half(""",
    )
    (project / "cliproj/mine.py").write_text(source)
    (project / "conf/task/token.yaml").write_text(
        "_target_: cliproj.mine.Token\n"
        "token: ${oc.env:MY_TOKEN}\n"
        "url: https://me:${task.token}@host\n"
        "more: {deep: ['${...token}', 1], default: '${oc.env:NOT_THERE,open}'}\n"
        "units: ${oc.decode:${oc.env:MY_UNITS}}\n"
        "leak: false\nfail: ''\n"
    )
    monkeypatch.setenv("MY_TOKEN", SECRET)
    monkeypatch.setenv("MY_UNITS", "2")
    return project


def leaks(root: Path, *texts: str) -> list[str]:
    """Where the secret is."""
    found = [str(p) for p in root.rglob("*") if p.is_file() and SECRET.encode() in p.read_bytes()]
    return found + [text for text in texts if SECRET in text]


def test_nothing_written_holds_the_value(run: Run, tokens: Path) -> None:
    import sys

    code, out, err = run("task=token", "run_dir=r", *QUICK)
    assert code == 0, err
    assert leaks(tokens, out, err) == []
    text = (tokens / "r/config.yaml").read_text()
    assert "token: ${oc.env:MY_TOKEN}" in text
    assert "units: ${oc.decode:${oc.env:MY_UNITS}}" in text
    url = f"https://me:{SECRET}@host"
    more = {"deep": [SECRET, 1], "default": "open"}
    seen = sys.modules["cliproj.mine"].Token.seen
    assert seen == [(SECRET, url, more, 2)]
    assert run("mode=test", "run_dir=r")[0] == 0
    assert seen == [(SECRET, url, more, 2)] * 2
    events = b"".join(p.read_bytes() for p in (tokens / "r").rglob("event*"))
    assert b"${oc.env:MY_TOKEN}" in events


@pytest.mark.parametrize(
    "mistake",
    [
        "task.leak=true",
        "task.fail=leak",
        "trainer.max_time=${task.token}",
        "optimizer.learning_rate=${oc.env:MY_TOKEN}",
        "mode=${oc.env:MY_TOKEN}",
    ],
)
def test_no_message_tells_the_value(run: Run, tokens: Path, mistake: str) -> None:
    code, out, err = run("task=token", "run_dir=r", *QUICK, mistake)
    assert code in (1, 2)
    assert leaks(tokens, out, err) == []
    assert "MY_TOKEN" in err
    assert hidden(SECRET) == SECRET  # only during the run


def test_a_sweep_and_overrides_hold_references(run: Run, tokens: Path) -> None:
    words = [
        "task=token",
        "task.url='x${oc.env:MY_TOKEN}'",
        "task.more=${oc.env:MY_TOKEN}",
        "seed=1,2",
        "sweep_dir=s",
    ]
    code, out, err = run("-m", *words, *QUICK)
    assert code == 0, err
    assert leaks(tokens, out, err) == []
    (text,) = [p.read_text() for p in tokens.glob("s/0_seed=1/overrides.yaml")]
    assert "task.url='x${oc.env:MY_TOKEN}'" in text
    code, _, err = run("mode=test", "run_dir='s/0_seed=1'")
    assert code == 2
    assert "trust=[oc.env]" in err
    assert run("mode=test", "run_dir='s/0_seed=1'", "trust=[oc.env]")[0] == 0
    code, out, err = run(*words[:-2], "run_dir=single", *QUICK)
    assert code == 0, err
    assert "task.more=${oc.env:MY_TOKEN}" in (tokens / "single/overrides.yaml").read_text()
    assert leaks(tokens, out, err) == []


def test_a_changed_variable(run: Run, tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("task=token", "run_dir=r", "trainer.engine=graph", "loggers=[]")
    assert run(*words, "trainer.max_steps=1")[0] == 0
    before = (tokens / "r/references.json").read_text()
    monkeypatch.setenv("MY_TOKEN", "renewed-token")
    code, out, err = run(*words, "trainer.max_steps=2")
    assert code == 0, err
    assert "warning: task.token is ${oc.env:MY_TOKEN}, and that value has changed" in err
    assert "resuming from" in out
    assert "renewed-token" not in out + err
    monkeypatch.setenv("MY_TOKEN", SECRET)
    monkeypatch.setenv("MY_UNITS", "3")
    code, _, err = run(*words, "trainer.max_steps=3")
    assert code == 2
    assert "task.units is ${oc.decode:${oc.env:MY_UNITS}}, and that value has changed" in err
    assert "fix:" in err
    code, _, err = run(*words, "trainer.max_steps=3", "task.units=2")
    assert code == 2  # a number in its place is another configuration
    assert SECRET not in before


def test_a_run_directory_names_no_variables_of_its_own(
    run: Run, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("task=token", "run_dir=r", *QUICK)[0] == 0
    monkeypatch.setenv("ANOTHER", "another-secret")
    path = tokens / "r/config.yaml"
    path.write_text(
        path.read_text().replace("token: ${oc.env:MY_TOKEN}", "token: ${oc.env:ANOTHER}")
    )
    code, out, err = run("mode=test", "run_dir=r")
    assert code == 2
    assert "task.token was ${oc.env:ANOTHER}" in err
    assert "another-secret" not in out + err
    code, _, err = run("mode=test", "run_dir=r", "task.token=${oc.env:ANOTHER}")
    assert code == 0, err
