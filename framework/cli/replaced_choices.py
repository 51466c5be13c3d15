"""Drop options in the task's file that belong to another choice than the command line's."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from framework.cli.did_you_mean import key_fix
from framework.cli.groups.root import GROUPS, LISTS
from framework.cli.hydra_errors import wanted
from framework.cli.quoting import key_of
from framework.compat import is_interpolation, is_null, node_of
from framework.errors import UserError

_log = logging.getLogger("framework")


def chosen_groups(overrides: Sequence[str], config_dir: Path | None = None) -> set[str]:
    """Return the groups for which a command line makes a choice, itself or by its experiment.

    Example:
        >>> chosen_groups(["task=mine", "optimizer=sgd", "data.batch_size=8"])
        {'optimizer'}
    """
    keys = {*map(key_of, overrides), *_of_experiment(overrides, config_dir)}
    return keys & (GROUPS.keys() - {"trainer", "search"})


def _of_experiment(overrides: Sequence[str], config_dir: Path | None) -> dict[str, Any]:
    """Return the choices that the experiments of a command line make, by group."""
    from omegaconf import OmegaConf

    found: dict[str, Any] = {}
    given = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == "experiment"]
    for name in ",".join(given).split(","):
        path = (config_dir or Path("conf")) / "experiment" / f"{name}.yaml"
        try:
            defaults: Any = OmegaConf.to_container(OmegaConf.load(path)).get("defaults")  # type: ignore[union-attr]
            entries = [each for each in defaults or () if isinstance(each, dict)]
        except Exception:  # Hydra reports what is wrong with it
            continue
        for entry in entries:
            found |= {k.removeprefix("override").strip().lstrip("/"): v for k, v in entry.items()}
    return found


def fitted(config: Any, overrides: Sequence[str], config_dir: Path | None) -> Any:
    """Return a composed configuration without the task file's options for other choices.

    If the task's file sets `callbacks.early_stopping.patience` for its own default, that option
    does not apply to `callbacks=[]`; nor does `optimizer.beta_1` apply to `optimizer=sgd`. One that
    the command line itself sets, but the choice does not have, is refused.
    """
    found = copy.deepcopy(config)
    OmegaConf.set_struct(found, False)
    left: list[str] = []
    choices, made = HydraConfig.get().runtime.choices, _of_experiment(overrides, config_dir)
    for group in sorted(chosen_groups(overrides, config_dir)):
        if group in LISTS:
            names = _listed(overrides, group, made.get(group))
            for name in list(found[group] or ()):
                place = f"{group}.{name}"
                if name not in names:
                    left += _dropped(found[group], name, place)
                elif OmegaConf.is_dict(found[group][name]):
                    left += _pruned(found[group][name], _base(group, name), place)
                    found[group][name] = _checked(found[group][name], group, name, overrides)
        elif OmegaConf.is_dict(found[group]):
            name = str(choices.get(group) or "none")
            left += _pruned(found[group], _base(group, name), group)
            found[group] = _checked(found[group], group, name, overrides)
    for group in LISTS:
        for name in [n for n in found[group] or () if is_null(node_of(found[group], n))]:
            del found[group][name]  # switched off: callbacks.early_stopping=null
    _refuse_explicit(left, overrides, found, config_dir)
    ignored = [key for key in left if found[key.partition(".")[0]]]  # silent if nothing is chosen
    if ignored:
        _log.info("ignoring options of another choice: %s", ", ".join(ignored))
    OmegaConf.set_struct(found, True)
    return found


def _listed(overrides: Sequence[str], group: str, otherwise: Any) -> list[str]:
    given = [o for o in overrides if o.lstrip("+").partition("=")[0] == group]
    value = OverridesParser.create().parse_override(given[-1]).value() if given else otherwise
    return [str(name) for name in (value if isinstance(value, list) else [value])]


def _base(group: str, name: str) -> Any:
    """Return the options of a choice by itself."""
    composed = compose(config_name=f"{group}/{name}")
    inside = f"{group}.{name}" if group in LISTS else group
    return OmegaConf.select(composed, inside.replace("/", ".")) or {}


def _pruned(node: Any, base: Any, place: str) -> list[str]:
    """Remove from a node the options that its choice does not have; return their full keys."""
    left, names = [], set(base)  # including keys without a value
    for key in list(node):
        if key not in names:
            left += _dropped(node, key, f"{place}.{key}")
        elif OmegaConf.is_dict(node_of(node, key)) and _has_keys(node_of(base, key)):
            left += _pruned(node[key], base[key], f"{place}.{key}")
    return left


def _has_keys(node: Any) -> bool:
    # An empty schema accepts any key.
    return bool(OmegaConf.is_dict(node) and not is_null(node) and len(node))


def _dropped(parent: Any, key: str, place: str) -> list[str]:
    child = node_of(parent, key)
    keys = [place]
    if OmegaConf.is_dict(child) and not is_null(child) and not is_interpolation(child):
        keys = [f"{place}.{name}" for name in child]
    del parent[key]
    return keys


def _checked(node: Any, group: str, name: str, overrides: Sequence[str]) -> Any:
    """Return a node with the types of its schema, if the library has a schema for it."""
    schema = GROUPS[group].get(name)
    if not schema:
        return node
    typed = OmegaConf.structured(schema)
    OmegaConf.set_struct(typed, False)
    known = {key: node_of(node, key) for key in node if key in set(typed)}
    try:
        return OmegaConf.merge(node, OmegaConf.merge(typed, known))
    except OmegaConfBaseException as error:
        inside = f"{group}.{name}" if group in LISTS else group
        key = f"{inside}.{getattr(error, 'full_key', '')}".rstrip(".")
        line = next((o for o in overrides if o.partition("=")[0] == key), "the task's file")
        what, fix = wanted(error)
        raise UserError(f"{key}: {what}", where=line, fix=fix) from None


def _refuse_explicit(
    left: Sequence[str], overrides: Sequence[str], config: Mapping[str, Any], where: Path | None
) -> None:
    for override in overrides:
        key = override.lstrip("+").partition("=")[0]
        if key in left and not override.startswith("+"):
            raise UserError(
                f"There is no option {key!r}",
                where=override,
                fix=key_fix(key.split("."), config, where, override.partition("=")[2]),
            )
