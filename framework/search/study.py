"""The study of a search: where it is stored, and what it is a study of."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import distribution_to_json
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study, StudyDirection
from optuna.trial import Trial

from framework.core.paths import local_path
from framework.errors import UserError
from framework.search.options import SearchOptions
from framework.search.samplers import pruner_of, sampler_of
from framework.search.space import Space
from framework.sweep.record import Objective
from framework.text.escape import one_line

FILE = "study.db"
_SPACE, _OBJECTIVES, _FIXED, _PLACE = "space", "objectives", "fixed", "sweep_dir"

optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Aim:
    """What a search is of; all trials of a study share it.

    Attributes:
        space: What varies.
        objectives: What is to be best.
        fixed: The overrides that are the same for all trials and decide what they compute.
    """

    space: Space
    objectives: tuple[Objective, ...]
    fixed: tuple[str, ...] = ()

    def told(self) -> dict[str, Any]:
        """Return it as plain values, as a study keeps it."""
        return {
            _SPACE: {key: json.loads(distribution_to_json(d)) for key, d in self.space.items()},
            _OBJECTIVES: [[each.metric, each.direction] for each in self.objectives],
            _FIXED: sorted(self.fixed),
        }


def study_name(options: SearchOptions, sweep_dir: Path) -> str:
    """Return the name of the study."""
    return options.study or sweep_dir.resolve().name


def storage_of(options: SearchOptions, sweep_dir: Path) -> BaseStorage:
    """Open the storage: a database by its URL, a journal by its path, else `study.db`.

    Raises:
        UserError: It cannot be opened.
    """
    given = options.storage
    try:
        if given is None:
            return RDBStorage(f"sqlite:///{(sweep_dir / FILE).resolve()}")
        if "://" in given:
            return RDBStorage(given)
        path = local_path(given, "search.storage")
        if not path.parent.is_dir():
            raise OSError(f"there is no directory {path.parent}")
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # each database has its own
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise UserError(
            f"The search's storage cannot be opened: {one_line(lines[0])}",
            where="search.storage" if given else str(sweep_dir / FILE),
            fix="Give a database's URL (sqlite:///file.db, postgresql://...), or the path of a "
            "journal file.",
        ) from error


@dataclass(frozen=True)
class Stored:
    """A study, with the storage that it is in.

    Attributes:
        study: The study.
        storage: Its storage.
    """

    study: Study
    storage: BaseStorage

    def trial(self, number: int) -> Trial:
        """Return a trial to report to, or to draw from."""
        study_id = self.storage.get_study_id_from_name(self.study.study_name)
        found = self.storage.get_trial_id_from_study_id_trial_number(study_id, number)
        return Trial(self.study, found)


def make_study(options: SearchOptions, sweep_dir: Path, aim: Aim) -> None:
    """Make the search's study, or check the one that there is.

    Raises:
        UserError: The storage cannot be opened, or the study is of something else.
    """
    sampler_of(options, aim.space)
    pruner_of(options)
    storage, name = storage_of(options, sweep_dir), study_name(options, sweep_dir)
    directions = [_direction(each) for each in aim.objectives]
    if name in optuna.get_all_study_names(storage):
        study = optuna.load_study(storage=storage, study_name=name)
        _check(study, aim, sweep_dir)
    else:
        study = optuna.create_study(storage=storage, study_name=name, directions=directions)
    for key, value in {**aim.told(), _PLACE: str(sweep_dir.resolve())}.items():
        if study.user_attrs.get(key) != value:
            study.set_user_attr(key, value)


def load_study(options: SearchOptions, sweep_dir: Path, space: Space | None = None) -> Stored:
    """Load a search's study: to ask it for trials of its space, or to report to it."""
    storage = storage_of(options, sweep_dir)
    study = optuna.load_study(
        storage=storage,
        study_name=study_name(options, sweep_dir),
        sampler=sampler_of(options, space) if space else None,
        pruner=pruner_of(options),
    )
    return Stored(study, storage)


def _direction(objective: Objective) -> StudyDirection:
    return StudyDirection.MAXIMIZE if objective.direction == "max" else StudyDirection.MINIMIZE


def _check(study: Study, aim: Aim, sweep_dir: Path) -> None:
    """Refuse a study of something else.

    Raises:
        UserError: It says what is different.
    """
    there, wanted = study.user_attrs, aim.told()
    if not there and not study.get_trials(deepcopy=False):
        return  # a kill has left it so
    elsewhere = there.get(_PLACE)
    if elsewhere and elsewhere != str(sweep_dir.resolve()) and Path(elsewhere).is_dir():
        raise _other(study, f"its runs are in {elsewhere}", f"Give sweep_dir={elsewhere}")
    for key in (_SPACE, _OBJECTIVES, _FIXED):
        if there.get(key) != wanted[key]:
            how = _difference(there.get(key) or (), wanted[key])
            raise _other(study, how, "Write what it was started with")


def _other(study: Study, how: str, fix: str) -> UserError:
    return UserError(
        f"The study {study.study_name!r} is of another search: {how}",
        where="search.study",
        fix=f"{fix}, or give this search a name of its own: search.study=<name>, or another "
        "sweep_dir=.",
    )


def _difference(there: Any, here: Any) -> str:
    """Return what a study has and what this search has, of what they do not share."""
    if isinstance(here, dict):
        there = [(key, value) for key, value in dict(there).items()]
        here = list(here.items())
    gone = [_shown(each) for each in there if each not in here] or ["nothing"]
    new = [_shown(each) for each in here if each not in there] or ["nothing"]
    return f"there {', '.join(gone)}; here {', '.join(new)}"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        about: dict[str, Any] = value["attributes"]
        if "choices" in about:
            return ",".join(map(str, about["choices"]))
        return f"{'log ' if about['log'] else ''}{about['low']:g} to {about['high']:g}"
    return value if isinstance(value, str) else " ".join(map(_shown, value))
