"""Declare an option: its default, its help, and its valid values, in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any, NoReturn

from framework.errors import UserError, choice


def option(
    default: Any,
    help: str,
    *,
    identity: bool = False,
    local: bool = False,
    choices: tuple[str, ...] | None = None,
    least: float | None = None,
    above: float | None = None,
    below: float = math.inf,
    share: bool = False,
    aliases: Mapping[str, str] = MappingProxyType({}),
    wanted: str = "",
) -> Any:
    """Declare an option with its default and all its properties.

    Args:
        default: The default value.
        help: One line of help.
        identity: Whether it affects the result of a run; then it may not change on resume.
        local: Whether it only affects output or speed; then workers may differ in it.
        choices: The valid choices.
        least: The smallest valid value.
        above: The exclusive lower bound.
        below: The exclusive upper bound.
        share: Whether a whole number counts batches and a fraction is a share of all.
        aliases: Other names for a choice.
        wanted: The description of valid values in error messages.
    """
    known = {k: v for k, v in locals().items() if k != "default"}
    return field(default=default, metadata=known)


def check(name: str, value: Any, known: Mapping[str, Any], where: str = "trainer") -> None:
    """Refuse a value that is outside its option's range or not among its choices."""
    choices, least, above = known["choices"], known["least"], known["above"]
    if value is None:
        return
    if choices is not None and value not in choices:
        fix = choice(value, choices, known["aliases"])
        raise UserError(f"{name} is {value!r}", where=f"{where}.{name}", fix=fix)
    right = least is None or value >= least
    right = right and (above is None or above < value < math.inf)
    if known["share"]:
        right = math.isfinite(value) and value >= 0 and (isinstance(value, int) or value <= 1)
    if not right or (least is not None and value >= known["below"]):
        refuse(name, value, known["wanted"], where)


def refuse(name: str, value: object, wanted: str, where: str = "trainer") -> NoReturn:
    """Refuse a value of an option; the message says where it is set and which values are valid."""
    raise UserError(f"{name} is {value!r}", where=f"{where}.{name}", fix=f"Give {wanted}.")
