"""Decide which names a run directory may use: the framework's, Keras's and the project's.

A configuration that the user composes may name anything, because the files and the command line
are the user's own. A run directory may come from somebody else, and each `_target_` in it is a
request to call something. Such a call is allowed only if it can do no harm by itself.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf

from framework.cli.groups.root import GROUPS
from framework.errors import UserError

# Allowed in Keras: kinds of classes by module, and numeric functions. No loaders, no paths.
_KERAS = re.compile(
    r"keras\.(optimizers(\.schedules)?|losses|metrics|layers|regularizers|initializers|constraints)"
    r"\.[A-Z]\w*"
    r"|keras\.(activations|losses|metrics)\.(?!(get|serialize|deserialize)$)[a-z]\w*"
    r"|keras\.callbacks\.(EarlyStopping|ReduceLROnPlateau|TerminateOnNaN|SwapEMAWeights)"
)
# These call or load their arguments.
_NOT_OF_KERAS = {
    f"keras.layers.{name}"
    for name in ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
}
_HERE = re.compile(r"https?://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?/*$")
_FRAMEWORK = re.compile(r"framework\.(callbacks|loggers)\.[a-z_]+\.[A-Z]\w*")
_CALL = re.compile(r"\$\{([^:}]*):")


def vouched(config: Mapping[str, Any]) -> list[str]:
    """Return the names that a configuration's `trust` allows."""
    given = config.get("trust") or []
    return [str(name) for name in ([given] if isinstance(given, str) else given)]


def check_override(text: str, where: Path, trusted: Collection[str] = ()) -> None:
    """Refuse an override in a run that is not a run option or that refers to the environment.

    `trusted` are names that the command line allows, including resolvers such as `oc.env`.
    """
    if text[:1] == "-" or "hydra" in re.split(r"[.@/:]", text.lstrip("+~").partition("=")[0]):
        raise UserError(
            f"the run sets {text!r}, which is not an option of a run",
            where=str(where),
            fix="Remove that line from the file if you trust the run.",
        )
    calls = _CALL.findall(text)
    if calls and not all(_is_trusted(name.strip(), trusted) for name in calls):
        raise UserError(
            f"the run sets {text!r}, but references in a run directory are not resolved",
            where=str(where),
            fix="To allow it, repeat it on the command line, in quotes, or allow all "
            f"such references: 'trust=[{calls[0].strip()}]'.",
        )


def named_by(overrides: Sequence[str]) -> list[dict[str, Any]]:
    """Return overrides as configuration nodes, by full key."""
    nodes = []
    for text in overrides:
        try:
            parsed = OverridesParser.create().parse_override(text)
            value: Any = None if parsed.is_delete() else parsed.value()
        except HydraException:
            continue  # composing reports what is wrong with it
        node: Any = value
        for part in reversed(parsed.key_or_group.split(".")):
            node = {part: node}
        nodes.append(node)
    return nodes


def check_config(nodes: Sequence[Any], run_dir: Path, trusted: Collection[str]) -> None:
    """Refuse a configuration from a run that names something a run may not name.

    `trusted` are names of classes, functions or modules that the user allows.
    """
    importlib.invalidate_caches()
    for place, name in _named(nodes):
        if not _is_trusted(name, trusted) and not _is_allowed(name, run_dir):
            raise _refused(name, place, run_dir)
    for node in nodes:
        _check_logs(node.get("loggers"), run_dir)


def check_defined(nodes: Sequence[Any], run_dir: Path, trusted: Collection[str]) -> None:
    """Import what a run names, and refuse names that are only reachable through an allowed module.

    For example, `tasks.mine.os.system` is reachable through a module of the project but does not
    belong to it. Call `check_config` first.
    """
    for place, name in _named(nodes):
        if name.startswith("keras.") or _is_trusted(name, trusted):
            continue  # allowed by its pattern
        found: Any = None
        for part in (parts := name.split("."))[1:]:
            try:
                found = getattr(found or importlib.import_module(parts[0]), part)
            except AttributeError:
                try:
                    found = importlib.import_module(".".join(parts[: parts.index(part) + 1]))
                except ImportError:
                    break  # building it reports what is missing
        else:
            home = str(getattr(found, "__module__", ""))
            whole = f"{home}.{getattr(found, '__qualname__', '')}"
            kept = home.startswith("framework.") and name.startswith("framework.")
            if not kept and not (_is_of_project(whole, run_dir) or _is_allowed(whole, run_dir)):
                raise _refused(name, place, run_dir)


def _refused(name: str, place: str, run_dir: Path) -> UserError:
    return UserError(
        f"the run names {name!r}, which is not part of the framework, not a safe Keras class or "
        "function, and not in a module of this project",
        where=f"{place} in {run_dir}",
        fix=f"If you know who wrote the run and what this does, allow it: 'trust=[{name}]'.",
    )


def _check_logs(loggers: Any, run_dir: Path) -> None:
    """Refuse logs that a run would write outside its own directory, or send elsewhere."""
    if not isinstance(loggers, dict):
        return
    for name, node in loggers.items():
        for option, value in node.items() if isinstance(node, dict) else ():
            path = Path(str(value))
            away = "://" in str(value) and not _HERE.match(str(value))
            if away or path.is_absolute() or ".." in path.parts or str(value)[:1] == "~":
                raise UserError(
                    f"the run logs to {str(value)!r}, which is outside the run directory",
                    where=f"loggers.{name}.{option} in {run_dir}",
                    fix=f"To allow that, add 'loggers.{name}.{option}={value}'.",
                )


def _named(nodes: Sequence[Any]) -> list[tuple[str, str]]:
    return [named for node in nodes for named in _targets(node, "")]


def _targets(node: Any, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, dict):
        if "class_name" in node and node.keys() & {"config", "module", "registered_name"}:
            yield at, f"{node.get('module')}.{node['class_name']}"  # Keras would create it
        for key, value in node.items():
            place = f"{at}.{key}" if at else str(key)
            if str(key).strip() == "_target_":
                yield place, str(value)
            yield from _targets(value, place)
    elif isinstance(node, (list, tuple)):
        for number, value in enumerate(node):
            yield from _targets(value, f"{at}.{number}")


def _is_trusted(name: str, trusted: Collection[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in trusted)


def _is_allowed(name: str, run_dir: Path) -> bool:
    if name.partition(".")[0] == "keras":
        return _KERAS.fullmatch(name) is not None and name not in _NOT_OF_KERAS
    if name.partition(".")[0] == "framework":
        return name in _of_groups() or _FRAMEWORK.fullmatch(name) is not None
    return _is_of_project(name, run_dir)


def _of_groups() -> set[str]:
    """Return the names that the framework's own choices use."""
    nodes = [node for group in GROUPS.values() for node in group.values()]
    plain = [
        OmegaConf.to_container(OmegaConf.structured(n) if n else OmegaConf.create()) for n in nodes
    ]
    return {name for node in plain for _, name in _targets(node, "")}


def _is_of_project(name: str, run_dir: Path) -> bool:
    """Check, without importing anything, whether a name lies in one of the user's own modules.

    The user's own modules lie below the working directory or elsewhere on the module search path,
    but not below an installation of Python or of a package manager, and not in the project folder
    that contains the run: whoever sent the run may also have sent the files beside it.
    """
    paths: Sequence[str] | None = None
    file: Path | None = None
    for part in name.split(".")[:-1]:
        spec = PathFinder.find_spec(part, paths)
        if spec is None:
            break
        found = spec.origin if spec.has_location else None
        file = Path(os.path.realpath(found)) if found else None
        paths = list(spec.submodule_search_locations or ())
        if not paths:
            break
    if file is None or name.partition(".")[0] in sys.builtin_module_names:
        return False
    run = Path(os.path.realpath(run_dir))
    if file.is_relative_to(run) or {"site-packages", "dist-packages"} & set(file.parts):
        return False
    stdlib = Path(os.path.realpath(os.__file__)).parent
    return not file.is_relative_to(stdlib) and any(_holds(root, file, run) for root in _roots())


def _holds(root: Path, file: Path, run: Path) -> bool:
    if not file.is_relative_to(root):
        return False
    if not run.is_relative_to(root):
        return True
    inside = run.relative_to(root).parts
    return bool(inside) and file.relative_to(root).parts[0] != inside[0]


def _roots() -> list[Path]:
    """Return the directories of the user's own modules, without installed packages."""
    paths = [Path(os.path.realpath(path)) for path in (".", *sys.path)]
    return [path for path in paths if path.is_dir() and path != Path(path.anchor)]
