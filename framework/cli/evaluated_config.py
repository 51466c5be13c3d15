"""Evaluate a run with its own configuration, except for what the command line sets."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.cli.env_references import References, taken_over
from framework.cli.groups.root import GROUPS, MODES
from framework.cli.quoting import key_of, value_of
from framework.cli.run_dir import CONFIG, OVERRIDES, flat
from framework.cli.trust import check_config, check_override, named_by, vouched
from framework.cli.untrusted_yaml import read_yaml
from framework.core.paths import local_path
from framework.core.same_option import same

# Options of a single command, not of the run.
_OF_A_COMMAND = (
    "mode", "checkpoint", "run_dir", "sweep_dir", "jobs", "search", "trust", "verbosity",
    "export", "predict",
    "debug",  # of earlier runs
)  # fmt: skip
# Options that, besides the seed, decide which rows are held out for validation.
_NOT_THE_SPLIT = ("dir", "batch_size", "eval_batch_size", "shuffle", "augment")

_log = logging.getLogger("framework")


def with_earlier(overrides: Sequence[str]) -> list[str]:
    """Return a command line's overrides, preceded by those of the run that it evaluates, if any.

    Example:
        >>> with_earlier(["mode=test", "run_dir=runs/a"])
        ['task=mine', 'seed=3', 'mode=test', 'run_dir=runs/a']
    """
    values = {key_of(o): value_of(o) for o in overrides}
    if values.get("mode") not in MODES or values["mode"] == "fit" or not values.get("run_dir"):
        return list(overrides)
    given = {key_of(o): o for o in overrides}
    started_with = _overrides(local_path(values["run_dir"], "run_dir"))
    others = {
        key
        for key in (*GROUPS, "task")
        if key in given and key in map(key_of, started_with) and given[key] not in started_with
    }
    if "task" in others:
        return list(overrides)  # refused later, with a better message
    kept = []
    where = local_path(values["run_dir"], "run_dir") / OVERRIDES
    (typed,) = named_by([given["trust"]]) if "trust" in given else ({},)
    for override in started_with:
        key = key_of(override)
        again = key in given and not (override.startswith("+") and given[key][0] not in "+~")
        first = key.split(".")[0].split("@")[0].split("/")[0]
        if not (again or first in (*_OF_A_COMMAND, "hydra", *others)):
            check_override(override, where, vouched(typed))
            kept.append(override)
    return [*kept, *overrides]


def laid_over_run(
    config: Mapping[str, Any], overrides: Sequence[str], run_dir: Path, references: References
) -> Mapping[str, Any]:
    """Return the configuration for evaluating a run: its own, except for explicit overrides.

    If there is no run in `run_dir`, it is the configuration that the command line composes.
    """
    check_config(nodes_of(run_dir, overrides), run_dir, vouched(config))
    started_with, known = read_config(run_dir), set(_overrides(run_dir))
    if not started_with:
        return config
    explicit = [key_of(o) for o in overrides if o not in known]
    if "seed" in explicit:
        explicit.append("trainer.seed")
    merged = {**config, **taken_over(started_with, config, references, explicit)}
    for name, value in config["trainer"].items():
        merged["trainer"].setdefault(name, value)  # an option added after the run was written
    for key in (*_OF_A_COMMAND, *explicit):
        _put(merged, config, key.split("."))
    if config["mode"] == "validate":
        _announce_another_split(started_with, merged)
    return merged


def nodes_of(run_dir: Path, overrides: Sequence[str]) -> list[Any]:
    """Return the parts of an evaluation's configuration that come from the run directory."""
    started_with, known = read_config(run_dir), set(_overrides(run_dir))
    for override in overrides:
        if override not in known:
            _take_out(started_with, key_of(override).split("."))
    return [started_with, *named_by([o for o in overrides if o in known])]


def read_config(run_dir: Path) -> dict[str, Any]:
    """Return the configuration that a run was started with; empty if it cannot be read."""
    found = _read(run_dir / CONFIG)
    return found if isinstance(found, dict) and isinstance(found.get("trainer"), dict) else {}


def _overrides(run_dir: Path) -> list[str]:
    found = _read(run_dir / OVERRIDES)
    return [str(o) for o in found] if isinstance(found, list) else []


def _read(path: Path) -> Any:
    try:
        return read_yaml(path)
    except Exception:  # RunDir reports the problem if it matters
        return None


def _put(into: dict[str, Any], config: Mapping[str, Any], path: Sequence[str]) -> None:
    first, *rest = path
    if first not in config:
        into.pop(first, None)
    elif rest and isinstance(config[first], Mapping) and isinstance(into.get(first), dict):
        _put(into[first], config[first], rest)
    else:
        into[first] = config[first]


def _take_out(node: Any, path: Sequence[str]) -> None:
    first, *rest = path
    if isinstance(node, dict) and first in node:
        if rest:
            _take_out(node[first], rest)
        else:
            del node[first]


def _announce_another_split(started_with: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    before, after = flat(started_with), flat(now)
    changed = [
        f"{key} is {after.get(key)}, was {before.get(key)}"
        for key in sorted(before.keys() | after.keys())
        if key == "trainer.seed"
        or (key.startswith("data.") and key.split(".")[1] not in _NOT_THE_SPLIT)
        if not same(before.get(key), after.get(key))
    ]
    if changed:
        _log.warning("validating on different rows than the run did: %s", "; ".join(changed))
