"""Read the YAML of a run directory, which may come from an untrusted source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf

from framework.core.safe_files import read_bytes

_MAX_BYTES = 2**20  # bytes; a configuration has a few thousand
_DEEPEST = 64


def read_yaml(path: Path) -> Any:
    """Return the content of a run's YAML file as plain values; references stay text.

    Raises:
        OSError: The file cannot be read, is a link, or is too large.
        ValueError: The file is not YAML, is nested too deeply, or holds aliases, which could
            expand to any amount of memory.
    """
    text = read_bytes(path, _MAX_BYTES).decode()
    try:
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise ValueError("it contains an alias (*name)")
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                raise ValueError(f"it is nested more than {_DEEPEST} levels deep")
    except yaml.YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from error
    return OmegaConf.to_container(OmegaConf.create(text)) if text.strip() else None
