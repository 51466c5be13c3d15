"""Values that come from the environment: they are used and compared, but never written to disk.

A run directory holds `${oc.env:TOKEN}` where the configuration does, not the variable's value.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from framework.compat import is_interpolation, is_missing, is_null, node_of, raw
from framework.core.safe_files import read_bytes
from framework.errors import UserError

FILE = "references.json"

_SHORTEST_HIDDEN = 6  # shorter values occur inside too many words
_PATHS = ("run_dir", "sweep_dir", "checkpoint")

_log = logging.getLogger("framework")


@dataclass(frozen=True)
class References:
    """The values of a configuration that refer to the environment.

    Attributes:
        written: The references as text, by location: `("task", "token")` maps to `${oc.env:TOKEN}`.
        variables: The values of the variables that the references read.
    """

    written: Mapping[tuple[Any, ...], str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    def put_into(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a resolved configuration in which references replace their values."""
        found: dict[str, Any] = copy.deepcopy(dict(config))
        for place, text in self.written.items():
            if _at(found, place) is not None:
                _at(found, place[:-1])[place[-1]] = text
        return found

    def hidden(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Return the text that messages and results show in place of possibly secret values.

        Numbers and existing paths stay visible: hiding them would make messages hard to read.
        """
        paths = [str(config.get(name)) for name in _PATHS]
        return {
            value: f"${{oc.env:{name}}}"
            for name, value in self.variables.items()
            if len(value) >= _SHORTEST_HIDDEN
            and not (_decides(value) or os.path.exists(value))
            and not any(value in text for text in paths)
        }


@contextmanager
def recorded(into: dict[str, str]) -> Iterator[None]:
    """Record the environment variables that OmegaConf reads, and their values."""

    def read(key: str, *default: Any) -> Any:
        value = oc.env(key, *default)
        # A default value is visible in the configuration anyway.
        into[key] = os.environ.get(key, "")
        return value

    OmegaConf.register_new_resolver("oc.env", read, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def find_references(config: Any) -> References:
    """Find the values of a composed configuration that refer to the environment."""
    written: dict[tuple[Any, ...], str] = {}
    variables: dict[str, str] = {}
    _walk(config, (), written, variables)
    return References(written, variables)


def taken_over(
    started_with: Mapping[str, Any],
    config: Mapping[str, Any],
    references: References,
    explicit: Sequence[str],
) -> dict[str, Any]:
    """Return a run's configuration with the current values of its references.

    Except for `explicit` keys, which the command line sets: they replace the run's values.

    Raises:
        UserError: The run refers to something that the project's files no longer refer to. A
            reference is never resolved only because a run directory contains it.
    """
    found = copy.deepcopy(dict(started_with))
    for place, text in texts(started_with):
        key = ".".join(map(str, place))
        if any(f"{key}.".startswith(f"{given}.") for given in explicit):
            continue
        if text not in (references.written.get(place), _at(config, place)):
            raise UserError(
                f"{key} was {text} when the run started, but is not now",
                where=key,
                fix=f"To use that variable, add '{key}={text}'.",
            )
        _at(found, place[:-1])[place[-1]] = _at(config, place)
    return found


def check_references(
    run_dir: Path, references: References, config: Mapping[str, Any]
) -> str | None:
    """Compare the current values of references with those at the start of a run.

    Returns:
        The content for the run's file `references.json`: a slow, salted hash of each value. None
        if there is nothing to write.

    Raises:
        UserError: A number has changed, and numbers affect what the run computes. For text, which
            may be a renewed key, a warning is logged instead.
    """
    known = _read(run_dir / FILE)
    salt = str(known.get("salt", secrets.token_hex(16)))
    then = known.get("values", {})
    now = {}
    for place, text in references.written.items():
        key, value = ".".join(map(str, place)), _at(config, place)
        now[key] = _hash(salt, value)
        if then.get(key, now[key]) == now[key]:
            continue
        if _decides(value):
            raise UserError(
                f"{key} is {text}, and that value has changed since the run started",
                where=str(run_dir),
                fix="Restore the old value to resume the run, or start another in a new run_dir=.",
            )
        _log.warning("%s is %s, and that value has changed since the run started", key, text)
    if not now:
        return None
    return json.dumps({"salt": salt, "values": now}, indent=2) + "\n"


def _walk(
    node: Any, place: tuple[Any, ...], written: dict[tuple[Any, ...], str], used: dict[str, str]
) -> None:
    keys: Any = range(len(node)) if OmegaConf.is_list(node) else list(node)
    for key in keys:
        child = node_of(node, key)
        if is_interpolation(child):
            read: dict[str, str] = {}
            with recorded(read):
                value = node[key]
                if OmegaConf.is_config(value):
                    OmegaConf.to_container(value, resolve=True)
            if read:
                written[(*place, key)] = str(raw(child))
                used.update(read)
        elif OmegaConf.is_config(child) and not (is_null(child) or is_missing(child)):
            _walk(child, (*place, key), written, used)


def texts(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """Yield the references in a configuration as text, with their places."""
    if isinstance(node, str):
        if "${" in node:
            yield place, node
        return
    pairs: Any = ()
    if isinstance(node, Mapping):
        pairs = node.items()
    elif isinstance(node, list):
        pairs = enumerate(node)
    for key, value in pairs:
        yield from texts(value, (*place, key))


def _at(node: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        try:
            node = node[key]
        except (KeyError, IndexError, TypeError):
            return None
    return node


def _hash(salt: str, value: Any) -> str:
    text = json.dumps(value, sort_keys=True, default=str).encode()
    return hashlib.scrypt(text, salt=salt.encode(), n=2**14, r=8, p=1).hex()


def _decides(value: Any) -> bool:
    """Whether a value is a number or a boolean, including one written as text."""
    try:
        float(value)
    except (TypeError, ValueError):
        return str(value).lower() in ("true", "false")
    return True


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_bytes(path, 2**20))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("values"), dict) else {}
