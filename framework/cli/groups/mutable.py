"""Schemas that OmegaConf can write to."""

from __future__ import annotations

import typing
from dataclasses import field, fields, make_dataclass


def mutable(schema: type, module: str, name: str) -> type:
    """Return a copy of a schema that OmegaConf can write to, as it locks frozen dataclasses.

    Args:
        schema: A frozen dataclass.
        module: Where the copy is found when a launcher sends a configuration to another process.
        name: Its name there.
    """
    types = typing.get_type_hints(schema)
    made = make_dataclass(
        name,
        [
            (f.name, types[f.name], field(default=f.default, metadata=f.metadata))
            for f in fields(schema)
        ],
    )
    made.__module__, made.__qualname__ = module, name
    return made
