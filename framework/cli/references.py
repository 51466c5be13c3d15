"""Values that come from the environment: used, compared, but never written anywhere.

A run directory holds `${oc.env:TOKEN}` where the configuration does, not what it stood for.
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

from framework.compat import is_interpolation, is_missing, is_null, node_of, raw
from framework.core.files import read_bytes
from framework.errors import UserError

FILE = "references.json"

_SHORTEST_HIDDEN = 6  # anything shorter is part of too many words
_PATHS = ("run_dir", "sweep_dir", "checkpoint")

_log = logging.getLogger("framework")


@dataclass(frozen=True)
class References:
    """Which values of a configuration refer to the environment.

    Attributes:
        written: Their text by where they are, such as `("task", "token")`: `${oc.env:TOKEN}`.
        variables: The values of the variables that they read.
    """

    written: Mapping[tuple[Any, ...], str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    def put_into(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return a resolved configuration with the references in place of their values."""
        found: dict[str, Any] = copy.deepcopy(dict(config))
        for place, text in self.written.items():
            if _at(found, place) is not None:
                _at(found, place[:-1])[place[-1]] = text
        return found

    def hidden(self, config: Mapping[str, Any]) -> dict[str, str]:
        """Return what messages and results are to say in place of values that may be secret.

        A number or a path that exists is none; it would only make messages hard to read.
        """
        told = [str(config.get(name)) for name in _PATHS]
        return {
            value: f"${{oc.env:{name}}}"
            for name, value in self.variables.items()
            if len(value) >= _SHORTEST_HIDDEN
            and not (_decides(value) or os.path.exists(value))
            and not any(value in text for text in told)
        }


@contextmanager
def recorded(into: dict[str, str]) -> Iterator[None]:
    """Note which variables of the environment OmegaConf reads, and their values."""
    from omegaconf import OmegaConf
    from omegaconf.resolvers import oc

    def read(key: str, *default: Any) -> Any:
        value = oc.env(key, *default)
        # A default stands in the configuration for all to see.
        into[key] = os.environ.get(key, "")
        return value

    OmegaConf.register_new_resolver("oc.env", read, replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def find_references(config: Any) -> References:
    """Return which values of a composed configuration refer to the environment.

    Args:
        config: An OmegaConf node, all of whose interpolations can be resolved.
    """
    written: dict[tuple[Any, ...], str] = {}
    variables: dict[str, str] = {}
    _walk(config, (), written, variables)
    return References(written, variables)


def taken_over(
    began: Mapping[str, Any],
    config: Mapping[str, Any],
    references: References,
    explicit: Sequence[str],
) -> dict[str, Any]:
    """Return a run's configuration with the values that its references have now.

    Args:
        began: As the run wrote it.
        config: What the command line composes, with values.
        references: The references in that.
        explicit: The keys that the command line gives, which take the place of the run's.

    Raises:
        UserError: The run refers to something that the project's files do not refer to any more:
            no reference is followed only because a run directory says so.
    """
    found = copy.deepcopy(dict(began))
    for place, text in _texts(began):
        key = ".".join(map(str, place))
        if any(f"{key}.".startswith(f"{given}.") for given in explicit):
            continue
        if text not in (references.written.get(place), _at(config, place)):
            raise UserError(
                f"{key} was {text} when the run began, and is not now",
                where=key,
                fix=f"If that variable is meant, say so: '{key}={text}'.",
            )
        _at(found, place[:-1])[place[-1]] = _at(config, place)
    return found


def check_references(
    run_dir: Path, references: References, config: Mapping[str, Any]
) -> str | None:
    """Compare the values of references with those that a run began with.

    Args:
        run_dir: The run's directory.
        references: The references in `config`.
        config: The configuration, with values.

    Returns:
        What to write into its file `references.json`: a slow, salted hash of each value. None
        where there is nothing to write.

    Raises:
        UserError: A number is another one: it decides what is computed. Of a text, which may be a
            key that was renewed, a warning says so.
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
                f"{key} is {text}, which has another value than when the run began",
                where=str(run_dir),
                fix="Set it as it was to continue the run, or give another run_dir= to begin anew.",
            )
        _log.warning("%s is %s, which has another value than when the run began", key, text)
    if not now:
        return None
    return json.dumps({"salt": salt, "values": now}, indent=2) + "\n"


def _walk(
    node: Any, place: tuple[Any, ...], written: dict[tuple[Any, ...], str], used: dict[str, str]
) -> None:
    from omegaconf import OmegaConf

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


def _texts(node: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
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
        yield from _texts(value, (*place, key))


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
    """Tell whether a value is a number or a truth value, written as text or not."""
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
