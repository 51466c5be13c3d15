"""The help text: tasks, groups and options. Imports neither Hydra nor TensorFlow."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

from framework.cli.groups.root import GROUPS, SPANNING, RunConfig

FLAGS = """\
flags:
  -m, --multirun      run every combination of the values given as a,b,c, one after another
  -v                  show tracebacks
  --cfg job           print the configuration instead of running; --resolve fills in ${...}
  --config-dir DIR    where to look for task/, model/, ...; default: ./conf
  --shell-completion install=bash    completion for the keras-task command: eval "$(...)"
  --help              this page
"""

USAGE = "usage: python -m framework task=<task> [key=value ...] [flags]    (or: keras-task ...)"

_TRAINER = (
    *("max_epochs", "max_steps", "max_time", "limit_train_batches", "limit_val_batches"),
    *("val_every", "log_every", "precision", "device", "devices", "strategy", "engine"),
    *("accumulate", "clip_norm"),  # debug= stands for those of a try-out
)


def list_tasks(config_dir: Path | None) -> dict[str, str]:
    """Return the tasks of a project, sorted, each with its file's first comment as description.

    Each file `task/<name>.yaml` is a task, unless its name starts with an underscore.
    """
    return _described("task", config_dir)


def list_experiments(config_dir: Path | None) -> dict[str, str]:
    """Return the experiments of a project, `experiment/<name>.yaml`, as `list_tasks` does."""
    return _described("experiment", config_dir)


def _described(group: str, config_dir: Path | None) -> dict[str, str]:
    found = {}
    for path in sorted((config_dir or Path("conf")).glob(f"{group}/*.yaml")):
        if not path.name.startswith("_"):
            found[path.stem] = _first_comment(path)
    return found


def list_choices(config_dir: Path | None) -> dict[str, list[str]]:
    """Return every group except `task` with its choices, both the library's and the project's."""
    choices = {group: list(known) for group, known in {**GROUPS, **SPANNING}.items()}
    if config_dir and config_dir.is_dir():
        for folder in sorted(p for p in config_dir.iterdir() if p.is_dir() and p.name != "task"):
            own = [p.stem for p in sorted(folder.glob("*.yaml")) if p.name[0] != "_"]
            known = choices.setdefault(folder.name, [])
            known.extend(name for name in own if name not in known)
    return {group: names for group, names in choices.items() if names and names != ["default"]}


def usage(config_dir: Path | None) -> str:
    """Return the short help for a command that names no task."""
    return "\n".join([USAGE, "", *_task_lines(config_dir), "", "--help shows everything else."])


def help_text(config_dir: Path | None) -> str:
    """Return the full help page."""
    from framework.config import TrainerConfig

    lines = [
        "Train, validate, test or predict with a task.",
        "",
        USAGE,
        "",
        *_task_lines(config_dir),
        "",
        "groups (group=choice, then group.option=value; metrics, callbacks, loggers: [a,b]):",
    ]
    for group, names in list_choices(config_dir).items():
        if group != "experiment":
            lines += _hanging(group, ", ".join(names))
    experiments = list_experiments(config_dir)
    lines += ["", *_lines_of("experiments (experiment=...)", experiments)] if experiments else []
    lines += ["", "options:"]
    for field in fields(RunConfig):
        if "help" in field.metadata:
            lines += _hanging(f"{field.name}={_show(field.default)}", field.metadata["help"], 32)
    for field in fields(TrainerConfig):
        if field.name in _TRAINER:
            name = f"trainer.{field.name}={_show(field.default)}"
            lines += _hanging(name, field.metadata["help"], 32)
    lines += ["  --cfg job shows the others.", "", *_examples(list_tasks(config_dir)), "", FLAGS]
    return "\n".join(lines).rstrip()


def _task_lines(config_dir: Path | None) -> list[str]:
    tasks = list_tasks(config_dir)
    if not tasks:
        return ["no tasks here. Write conf/task/<name>.yaml with a line `_target_: tasks.x.X`."]
    return _lines_of("tasks", tasks)


def _lines_of(title: str, described: Mapping[str, str]) -> list[str]:
    width = max(map(len, described), default=0) + 2
    lines = (f"  {name:<{width}}{text}".rstrip() for name, text in described.items())
    return [f"{title}:", *lines] if described else []


def _examples(tasks: Iterable[str]) -> list[str]:
    """Return example commands that work in this project as they are."""
    names = sorted(tasks, key=len) or ["<task>"]
    run, several = f"  python -m framework task={names[0]}", ",".join(names[:2])
    return [
        "examples:",
        run,
        f"{run} trainer.max_epochs=10 callbacks=[ema]",
        f"  python -m framework -m task={several} seed=1,2,3",
        f"{run} run_dir=runs/a      # again: continues",
        f"{run} run_dir=runs/a mode=test checkpoint=best",
    ]


def _hanging(name: str, text: str, width: int = 12) -> list[str]:
    first = f"  {name:<{width}} "
    return textwrap.wrap(text, 99, initial_indent=first, subsequent_indent=" " * len(first))


def _show(default: object) -> str:
    if default is None:
        return "null"
    return str(default).lower() if isinstance(default, bool) else str(default)


def _first_comment(path: Path) -> str:
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ").strip()
        if line and not line.startswith("#"):
            break
    return ""
