"""What the jobs of a sweep vary: from overrides to keys, names and the list of jobs."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser

from framework.text.readable import short_numbers

_LONGEST = 100  # bytes, well below the limit of file systems


def job_name(number: int, varied: Sequence[str]) -> str:
    """Return the name of a job's directory: its number and the overrides that vary.

    Example:
        >>> job_name(3, ["task=mnist_subclass", "seed=2"])
        '3_task=mnist_subclass_seed=2'
    """
    text = "_".join(varied)
    name = re.sub(r"[^\w.=+-]+", "_", "_".join(map(short_numbers, varied))).strip("_")
    if len(os.fsencode(name)) > _LONGEST:
        start = name.encode("utf-8", "surrogateescape")[:_LONGEST].decode("utf-8", "ignore")
        name = f"{start}-{hashlib.sha256(os.fsencode(text)).hexdigest()[:8]}"
    return f"{number}_{name}" if name else str(number)


def job_key(varied: Iterable[str]) -> str:
    """Return a hash of what a job varies, whatever the order and spelling of its overrides.

    Example:
        >>> job_key(["seed=1", "optimizer.learning_rate=1e-3"]) == job_key(
        ...     ["optimizer.learning_rate=0.001", "+seed=1"]
        ... )
        True
    """
    text = json.dumps(values_of(varied), sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def values_of(overrides: Iterable[str]) -> dict[str, Any]:
    """Return the values of overrides by key; of several for one key, the last.

    Example:
        >>> values_of(["seed=1", "+task.name=a"])
        {'seed': 1, 'task.name': 'a'}
    """
    parser, found = OverridesParser.create(), {}
    for text in overrides:
        parsed = parser.parse_override(text)
        key = parsed.get_key_element().lstrip("+~")
        found[key] = parsed.value() if not parsed.is_sweep_override() else text.partition("=")[2]
    return found


def fixed_overrides(overrides: Sequence[str]) -> list[str]:
    """Return the overrides that give one value to all jobs, without those for Hydra itself.

    Example:
        >>> fixed_overrides(["task=a,b", "seed=1", "hydra.verbose=true"])
        ['seed=1']
    """
    return [text for text in overrides if not _of_hydra(text) and _is_fixed(text)]


def keys_of(overrides: Iterable[str]) -> set[str]:
    """Return the keys of overrides, without a sign.

    Example:
        >>> keys_of(["+task.width=3"])
        {'task.width'}
    """
    return {text.lstrip("+~").partition("=")[0] for text in overrides}


def planned_jobs(overrides: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what each job varies, in the order in which Hydra's basic sweeper runs them.

    Example:
        >>> planned_jobs(["task=a,b", "seed=1"])
        [('task=a',), ('task=b',)]
    """
    swept = [text for text in overrides if not (_of_hydra(text) or _is_fixed(text))]
    parsed = OverridesParser.create().parse_overrides(swept)
    varied = {
        o.get_key_element(): [f"{o.get_key_element()}={v}" for v in o.sweep_string_iterator()]
        for o in parsed
        if o.is_discrete_sweep()
    }
    return list(itertools.product(*varied.values()))


def varied_by(overrides: Sequence[str], fixed: Iterable[str]) -> tuple[str, ...]:
    """Return those overrides of a job that a sweep does not fix for all jobs.

    Example:
        >>> varied_by(["task=a", "seed=1"], ["task=a"])
        ('seed=1',)
    """
    known = keys_of(fixed)
    return tuple(o for o in overrides if not _of_hydra(o) and not keys_of([o]) & known)


def _of_hydra(override: str) -> bool:
    return override.lstrip("+~").startswith(("hydra.", "hydra/"))


def _is_fixed(override: str) -> bool:
    try:
        return not OverridesParser.create().parse_override(override).is_sweep_override()
    except Exception:
        return False  # Hydra will refuse it.


def _plain(value: Any) -> Any:
    text = getattr(value, "text", None)  # a quoted string
    if isinstance(value, Mapping):
        return dict(value)
    return str(value) if text is None else text
