"""Parse a command line into flags and overrides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from framework.cli.did_you_mean import meant, written
from framework.cli.groups.root import GROUPS
from framework.cli.quoting import with_quoted_paths
from framework.core.paths import local_path
from framework.errors import UserError, choice, closest

# The Hydra flags that are supported, and whether each takes a value.
_FLAGS = {
    "--multirun": False, "-m": False, "--run": False, "-r": False, "--resolve": False,
    "--hydra-help": False, "--version": False, "--shell-completion": False, "-sc": False,
    "--cfg": True, "-c": True, "--package": True, "-p": True, "--config-dir": True, "-cd": True,
    "--config-name": True, "-cn": True, "--config-path": True, "-cp": True, "--info": True,
    "-i": True,
}  # fmt: skip
_SHOWING = {"--hydra-help", "--version", "--shell-completion", "-sc", "--cfg", "-c", "--info", "-i"}
_SECTIONS = ("job", "hydra", "all")
_OWN_FLAGS = ("--help", "-h", "-v", "--verbose")


@dataclass
class Arguments:
    """A parsed command line."""

    flags: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    help: bool = False
    verbose: bool = False
    words: Sequence[str] = ()
    config_dir: Path | None = None

    @property
    def multirun(self) -> bool:
        """Whether the command line asks for a sweep."""
        asked = "-m" in self.flags or "--multirun" in self.flags
        return asked or "hydra.mode=MULTIRUN" in self.overrides

    @property
    def only_shows(self) -> bool:
        """Whether the command only prints something and runs nothing."""
        return not _SHOWING.isdisjoint(self.flags)

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Arguments:
        """Parse a command line; flags and overrides may come in any order."""
        found, words = cls(words=tuple(argv)), list(argv)
        while words:
            word = words.pop(0)
            name, equals, value = word.partition("=")
            if word == "debug=nan":  # Hydra would read a number
                found.overrides.append("debug='nan'")
            elif not word.startswith("-"):
                found.overrides.append(with_quoted_paths(word))
            elif word in ("--help", "-h"):
                found.help = True
            elif word in ("-v", "--verbose"):
                found.verbose = True
            elif name not in _FLAGS:
                known = [f for f in (*_FLAGS, *_OWN_FLAGS) if len(f) > 2]
                following = words[0] if words else ""
                fix = _flag_fix(name, value if equals else following, known)
                raise UserError(f"There is no flag {name}", where=word, fix=fix)
            elif not _FLAGS[name]:
                found.flags.append(name)
            elif not equals and not words:
                raise UserError(f"{name} needs a value", where=word, fix=f"Write {name} <value>.")
            else:
                value = value if equals else words.pop(0)
                if name in ("--config-dir", "-cd"):
                    found.config_dir = local_path(value, name)
                else:
                    _check_flag(name, value)
                    found.flags += [name, value]
        if found.config_dir is None and Path("conf").is_dir():
            found.config_dir = Path("conf")
        elif found.config_dir is not None and not found.config_dir.is_dir():
            raise UserError(
                "There is no such directory",
                where=f"--config-dir {found.config_dir}",
                fix="Give one that holds task/<name>.yaml, or leave it out for ./conf.",
            )
        return found


def _flag_fix(name: str, value: str, known: Sequence[str]) -> str:
    """Return the fix for an unknown flag; `value` is the word that follows it."""
    key = name.lstrip("-").replace("-", "_")
    right = key if key == "task" or key in GROUPS else meant(f"--.{key}")
    if right:
        value = "<value>" if not value or value[0] == "-" or "=" in value else value
        return f"Options have no dashes: {written(right, value)}"
    near = closest(name, known)
    if near.startswith("Did"):
        return near
    return f"The flags are: {', '.join(known)}. Options have no dashes: key=value."


def _check_flag(name: str, value: str) -> None:
    if name in ("--cfg", "-c") and value not in _SECTIONS:
        raise UserError(
            f"--cfg cannot show {value!r}", where=f"{name} {value}", fix=choice(value, _SECTIONS)
        )
