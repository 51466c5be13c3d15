"""Explain errors from Hydra and OmegaConf in the framework's own words."""

from __future__ import annotations

import re
from pathlib import Path

from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ValidationError

from framework.cli.groups.root import GROUPS, LISTS
from framework.cli.help import list_choices
from framework.errors import UserError

_WANTED = {
    **dict.fromkeys(("Integer", "int"), "a whole number"),
    **dict.fromkeys(("Float", "float"), "a number"),
    **dict.fromkeys(("Boolean", "bool"), "true or false"),
    **dict.fromkeys(("String", "str"), "text"),
}
CORRECT = "Correct it; --cfg job shows the configuration, --help its groups and options."


def refused_removal(line: str, key: str, config: DictConfig) -> UserError:
    """Return the error for an override that removes something that cannot be removed."""
    if key in GROUPS:
        nothing = "[]" if key in LISTS else "none"
        fix = f"To choose nothing in it: {key}={nothing}"
        return UserError(f"{key} cannot be removed", where=line, fix=fix)
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    if OmegaConf.is_dict(node) and name in node:
        fix = f"Set {key}=<value>, or null."
        return UserError(f"{key} cannot be removed", where=line, fix=fix)
    return UserError(f"There is no {key!r} to remove", where=line, fix=f"Leave {line} out.")


def explain(error: Exception, override: Override, config_dir: Path | None) -> UserError:
    """Return the error for an override that makes the configuration invalid."""
    chain: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None:
        chain.append(cause)
        cause = cause.__cause__ or cause.__context__
    line, key = str(override.input_line), override.key_or_group
    chooses = key in ("task", *list_choices(config_dir))
    file = config_dir and config_dir / key / f"{override.value()}.yaml"
    if "already at" in str(error) or "Multiple values for" in str(error):
        return UserError(f"{key} already exists", where=line, fix=f"Write {line.lstrip('+')}.")
    for link in chain:
        if isinstance(link, ValidationError):
            what, fix = wanted(link)
            where = re.search(r"full_key: (\S+)", str(link))
            if chooses and where:
                return UserError(f"{where[1]}: {what}", where=f"{file}", fix=fix)
            return UserError(f"{key}: {what}", where=line, fix=fix)
    if chooses:
        what = bare(chain[-1])
        unknown = re.match(r"Key '(\w+)' not in", what)
        fix = f"Remove {unknown[1]} from it, or correct its name." if unknown else CORRECT
        return UserError(what, where=str(file or line), fix=fix)
    return UserError(bare(error), where=line, fix=CORRECT)


def wanted(error: BaseException) -> tuple[str, str]:
    """Describe a value of the wrong type, and return the fix."""
    text = str(error).splitlines()[0]
    given = re.match(r"Value '(.*)' of type '\w+' ", text)
    kinds: list[str] = []
    if given and (match := re.search(r"could not be converted to (\w+)", text)):
        kinds = [match[1]]
    elif given and (match := re.search(r"incompatible with type hint '(.*)'", text)):
        kinds = re.findall(r"int|float|bool|str", match[1]) or [match[1]]
    elif given := re.match(r"Value '(.*)' is not a valid (\w+)", text):
        kinds = [given[2]]
    if given and kinds:
        names = " or ".join(dict.fromkeys(_WANTED.get(kind, kind) for kind in kinds))
        return f"{given[1]!r} is not {names}", f"Give {names}."
    if "None" in text or "not Optional" in text:
        return "null is not allowed here", "Give a value, or leave it out for the default."
    return text, CORRECT


def bare(error: BaseException) -> str:
    """Return an error's text without Hydra's advice to add a mistyped key with a plus sign."""
    lines = [
        line.strip()
        for line in str(error).splitlines()
        if line.strip()
        and not re.match(
            r"\s*(To append|Set the env|See http|full_key|object_type|provider=)", line
        )
        and not line.startswith("Config search path")
    ]
    return " ".join(lines[:6]) or type(error).__name__
