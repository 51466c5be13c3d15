"""Explain in the framework's own words why Hydra refused a configuration.

This runs only after a failure. It composes the configuration again, adding one override at a
time, to find the one that fails.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

from hydra import compose, initialize_config_dir, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, ValueType
from omegaconf import DictConfig, OmegaConf

from framework.cli.did_you_mean import guess, key_fix, meant, mode_fix
from framework.cli.groups.root import GROUPS, LISTS, MODES, ROOT, RunConfig
from framework.cli.help import list_choices, list_tasks
from framework.cli.hydra_errors import CORRECT, bare, explain, refused_removal
from framework.cli.run_dir import flat
from framework.compat import node_of
from framework.config import TrainerConfig
from framework.core.paths import local_path
from framework.errors import UserError, choice, closest

_TRAINER = {f.name for f in fields(TrainerConfig)}


def diagnose(
    error: Exception, overrides: Sequence[str], config_dir: Path | None, multirun: bool
) -> UserError:
    """Return the error to show for a configuration that could not be composed."""
    try:
        parsed = [_parse(text, config_dir) for text in overrides]
        if multirun and not any(t.startswith(("hydra/sweeper=", "search=")) for t in overrides):
            _check_intervals(parsed)
        _check_task(parsed, config_dir)
        _check_choices(parsed, config_dir)
        GlobalHydra.instance().clear()
        folder = config_dir and str(config_dir.resolve())
        with (
            initialize_config_dir(folder, version_base="1.3")
            if folder
            else initialize_config_module("framework.cli.groups", version_base="1.3")
        ):
            if not multirun:
                _check_sweeps(parsed)
            _try_one_by_one(parsed, config_dir)
    except UserError as found:
        return found
    return UserError(bare(error), where="the configuration", fix=CORRECT)


def _parse(text: str, config_dir: Path | None) -> Override:
    key, equals, value = text.partition("=")
    if not equals and not text.startswith("~"):
        if match := re.match(r"([\w.]+)[ :](\S.*)", text):
            fix = f"Write {match[1]}={match[2]}"
            raise UserError(f"{text!r} gives no value", where=text, fix=fix)
        if text in list_tasks(config_dir):
            raise UserError(f"{text!r} gives no key", where=text, fix=f"Write task={text}.")
        raise UserError(f"{text!r} gives no value", where=text, fix=f"Write {text}=<value>.")
    if equals and not key.strip("+~"):
        raise UserError(f"{text!r} gives no key", where=text, fix=f"Write <key>={value}.")
    try:
        parsed: Override = OverridesParser.create().parse_override(text)
    except Exception:
        if any(text.count(a) != text.count(b) for a, b in ("[]", "{}", "()")):
            what, fix = "has unbalanced brackets", "Close every bracket that you open."
        elif text.count("'") % 2 or text.count('"') % 2:
            what, fix = "has an open quote", "Close every quote that you open."
        else:
            what = "cannot be read"
            fix = f"Quote a value with special characters: '{key}=\"{value}\"'."
        raise UserError(f"{text!r} {what}", where=text, fix=fix) from None
    return parsed


def _check_task(parsed: Sequence[Override], config_dir: Path | None) -> None:
    """Raise an error if no task is chosen."""
    for override in parsed:
        key, value = str(override.key_or_group), _value(override)
        if key == "mode" and not override.is_sweep_override() and value not in MODES:
            raise UserError(
                f"There is no mode {value!r}", where=override.input_line, fix=mode_fix(value)
            )
    if not any(o.key_or_group in ("task", "experiment") for o in parsed):
        for override in parsed:
            key, value = str(override.key_or_group), _value(override)
            if meant(key) == "task":
                raise UserError(
                    f"There is no option {key!r}",
                    where=override.input_line,
                    fix=f"Write task={value}" + _list_tasks(config_dir),
                )
        given = {str(o.key_or_group): str(o.value()) for o in parsed if o.key_or_group}
        run_dir = given.get("run_dir")
        evaluates = given.get("mode", "fit") != "fit"
        if evaluates and run_dir and not local_path(run_dir, "run_dir").exists():
            raise UserError(
                f"There is no run in {run_dir}",
                where=f"run_dir={run_dir}",
                fix="Give the directory of a run, or add task=<name>.",
            )
        raise UserError("No task is given", fix="Add task=<name>." + _list_tasks(config_dir))


def _check_intervals(parsed: Sequence[Override]) -> None:
    for override in parsed:
        if override.value_type is ValueType.INTERVAL_SWEEP:
            ends = cast("IntervalSweep", override.value())
            raise UserError(
                f"{override.key_or_group} is an interval, but nothing draws values from it",
                where=override.input_line,
                fix=f"Give values: {override.key_or_group}={ends.start:g},{ends.end:g}; or search "
                "it: search=optuna.",
            )


def _check_sweeps(parsed: Sequence[Override]) -> None:
    for override in parsed:
        if override.is_sweep_override():
            key, value = override.key_or_group, _value(override)
            what, fix = f"{key} has several values: {value}", "Add -m to run each of them."
            if _is_list(key, [o for o in parsed if not o.is_sweep_override()]):
                fix += f" To pass them as one list: {key}=[{value}]"
            raise UserError(what, where=override.input_line, fix=fix)


def _is_list(key: str, others: Sequence[Override]) -> bool:
    if key in LISTS:
        return True
    try:
        config = compose(ROOT, [str(o.input_line) for o in others])
        return bool(OmegaConf.is_list(OmegaConf.select(config, key)))
    except Exception:
        return False  # It will be refused for another reason.


def _check_choices(parsed: Sequence[Override], config_dir: Path | None) -> None:
    groups = {**list_choices(config_dir), "task": list(list_tasks(config_dir))}
    groups.setdefault("trainer", ["default"])
    for override in parsed:
        group = override.key_or_group
        if group not in groups or override.is_delete():
            continue
        for name in _choices(override):
            if name is None:
                nothing = "[]" if group in LISTS else "none"
                right = {"task": "task=<name>", "trainer": "trainer=default"}
                raise UserError(
                    f"{group}=null is not a choice",
                    where=override.input_line,
                    fix=f"Write {right.get(group, f'{group}={nothing}')}.",
                )
            if name in groups[group]:
                continue
            if group == "task":
                raise no_such_task(str(name), config_dir)
            if group == "experiment" and name in groups["task"]:
                fix = f"Write task={name}."
                raise UserError(f"{name!r} is a task", where=override.input_line, fix=fix)
            one, known = group.removesuffix("s") if group in LISTS else group, groups[group]
            fix = choice(str(name), known) if known else f"Write conf/{group}/{name}.yaml."
            raise UserError(f"There is no {one} {str(name)!r}", where=override.input_line, fix=fix)


def no_such_task(name: str, config_dir: Path | None) -> UserError:
    """Return the error for a task that does not exist; it lists the existing tasks."""
    tasks = list_tasks(config_dir)
    near = closest(name, tasks) if tasks else ""
    fix = near if near.startswith("Did") else "Choose a task."
    return UserError(
        f"There is no task {name!r}", where=f"task={name}", fix=fix + _list_tasks(config_dir)
    )


def check_added(
    overrides: Sequence[str], config: Mapping[str, Any], config_dir: Path | None
) -> None:
    """Refuse a key that was added with a plus sign but that nothing reads."""
    groups = {*GROUPS, *list_choices(config_dir), "task"}
    known = {f.name for f in fields(RunConfig)} - {"defaults", "hydra"}
    added = {o.lstrip("+").partition("=")[0]: o for o in overrides if o.startswith("+")}
    for key, line in added.items():
        first, dot, rest = key.partition(".")
        if first == "hydra" or key.startswith("hydra/") or (key in groups and not dot):
            continue
        if first not in known:
            if not set(flat(config.get(first), first)) <= added.keys():
                continue  # a node that the project defines
            near = closest(first, known)
            right = near.split("'")[1] + dot + rest if near.startswith("Did") else ""
            fix = f"Did you mean {right!r}?" if right else guess(key, line.partition("=")[2])
            fix = fix or near
        elif first == "trainer" and rest not in _TRAINER:
            near = closest(rest, _TRAINER)
            fix = f"Did you mean 'trainer.{near.split(chr(39))[1]}'?" if "Did" in near else near
        else:
            continue
        raise UserError(f"Nothing reads the added option {key!r}", where=line, fix=fix)


def _value(override: Override) -> str:
    return str(override.input_line).partition("=")[2]


def _choices(override: Override) -> list[Any]:
    values = [o.value() for o in _alternatives(override)]
    return [each for v in values for each in (v if isinstance(v, list) else [v])]


def _alternatives(override: Override) -> Iterator[Override]:
    if not override.is_sweep_override():
        yield override
        return
    if override.value_type is ValueType.INTERVAL_SWEEP:
        ends = cast("IntervalSweep", override.value())
        for end in (ends.start, ends.end):
            yield OverridesParser.create().parse_override(f"{override.get_key_element()}={end}")
        return
    if not override.is_discrete_sweep() or override.value_type is ValueType.GLOB_CHOICE_SWEEP:
        return  # only the sweeper knows the values
    parser = OverridesParser.create()
    for value in override.sweep_string_iterator():
        yield parser.parse_override(f"{override.get_key_element()}={value}")


def _try_one_by_one(parsed: Sequence[Override], config_dir: Path | None) -> None:
    loader = GlobalHydra.instance().config_loader()
    groups = set(loader.list_groups(""))
    chosen = [o for o in parsed if o.key_or_group in groups]
    values = [o for o in parsed if o.key_or_group not in groups]
    accepted: list[str] = []
    config = DictConfig({})
    for override in [*chosen, *values]:
        line = ""
        for alternative in _alternatives(override):
            line = str(alternative.input_line)
            if override in values and config:
                _check_key(alternative, config, config_dir)
            try:
                composed = compose(ROOT, [*accepted, line])
            except Exception as refused:
                # Nothing composes until a task is chosen; do not blame this override for that.
                if any(str(a).startswith(("task=", "experiment=")) for a in [*accepted, line]):
                    if override.is_delete():
                        raise refused_removal(line, str(override.key_or_group), config) from None
                    raise explain(refused, alternative, config_dir) from None
            else:
                config = composed
        accepted.append(line)


def _check_key(override: Override, config: DictConfig, config_dir: Path | None) -> None:
    if override.is_add() or override.is_force_add() or override.is_delete():
        return
    node: Any = config
    steps = str(override.key_or_group).split(".")
    for step in steps:
        if OmegaConf.is_list(node):
            return
        if OmegaConf.is_dict(node) and step in node:
            node = node_of(node, step)
            continue
        raise UserError(
            f"There is no option {override.key_or_group!r}",
            where=str(override.input_line),
            fix=key_fix(steps, config, config_dir, _value(override)),
        )


def _list_tasks(config_dir: Path | None) -> str:
    tasks = list_tasks(config_dir)
    if not tasks:
        return "\nNo tasks here: write conf/task/<name>.yaml with a line `_target_: tasks.x.X`."
    width = max(map(len, tasks)) + 2
    return "\nTasks:" + "".join(f"\n  {n:<{width}}{d}".rstrip() for n, d in tasks.items())
