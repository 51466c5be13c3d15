"""The YAML of a run directory, which somebody else may have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from framework.core.files import read_bytes

_MOST = 2**20  # bytes; a configuration has some thousands
_DEEPEST = 64


def read_yaml(path: Path) -> Any:
    """Return what a YAML file of a run holds, as plain values; references stay text.

    Args:
        path: The file.

    Raises:
        OSError: It cannot be read, is a link, or is too large.
        ValueError: It is not YAML, holds aliases, which could stand for any amount of memory, or
            is nested too deeply.
    """
    import yaml  # type: ignore[import-untyped]
    from omegaconf import OmegaConf

    text = read_bytes(path, _MOST).decode()
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it holds an alias (*name)")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} deep")
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    return OmegaConf.to_container(OmegaConf.create(text)) if text.strip() else None
