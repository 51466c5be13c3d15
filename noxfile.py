"""The checks by name: `nox` runs all that a change must pass, `nox -s lint types` runs some.

Each session has a virtual environment of its own, which `nox -r` keeps from run to run.
`nox --no-venv` runs in the present one, which then needs `pip install -e ".[dev]"`.
"""

from __future__ import annotations

import re

import nox

nox.options.sessions = ["lint", "types", "imports", "tests"]

EXTRAS = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
TOOLS = {re.split(r"[<>=]", each)[0]: each for each in EXTRAS["test"]}


def install(session: nox.Session, *packages: str) -> None:
    """Install into the session's environment, if it has one."""
    if session.venv_backend != "none":
        session.install(*packages)


@nox.session
def lint(session: nox.Session) -> None:
    """Formatting and style."""
    install(session, TOOLS["ruff"])
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types."""
    install(session, "-e", ".[test]")
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Which room imports which."""
    install(session, TOOLS["import-linter"])
    session.run("lint-imports")


@nox.session
def unit(session: nox.Session) -> None:
    """The quick half of the tests: each part of the package by itself."""
    install(session, "-e", ".[test]")
    session.run("pytest", "tests/unit", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """All tests; `nox -s tests -- -k early_stopping` runs some."""
    install(session, "-e", ".[test]")
    session.run("pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """What the pages show, run as it stands; and their map of the package."""
    install(session, "-e", ".[test]")
    session.run("pytest", "-k", "test_docs or test_design_map", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """The benchmarks; `nox -s bench -- one_layer --quick` runs some."""
    install(session, "-e", ".[test]")
    session.run("python", "-m", "benchmarks", *session.posargs)
