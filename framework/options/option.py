"""An option: its default, its help, and what it may be, said once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

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
    """Declare an option: its default, and all that is known of it.

    Args:
        default: Its default.
        help: One line of help.
        identity: It decides what a run computes: it may not change when the run is resumed.
        local: It only shows something, or says how fast: workers may differ in it.
        choices: What it may be.
        least: The least that it may be.
        above: What it must be above.
        below: What it must be below.
        share: A whole number counts batches, a fraction is a share of all.
        aliases: What others call a choice.
        wanted: How a message says what it may be.
    """
    known = {k: v for k, v in locals().items() if k != "default"}
    return field(default=default, metadata=known)


def check(name: str, value: Any, known: Mapping[str, Any]) -> None:
    """Refuse a value that is not in the range, or among the choices, of its option."""
    choices, least, above = known["choices"], known["least"], known["above"]
    if value is None:
        return
    if choices is not None and value not in choices:
        fix = choice(known["aliases"].get(value, value), choices)
        raise UserError(f"{name} is {value!r}", where=f"trainer.{name}", fix=fix)
    right = least is None or value >= least
    right = right and (above is None or above < value < math.inf)
    if known["share"]:
        right = math.isfinite(value) and value >= 0 and (isinstance(value, int) or value <= 1)
    if not right or (least is not None and value >= known["below"]):
        refuse(name, value, known["wanted"])


def refuse(name: str, value: object, wanted: str) -> None:
    """Refuse a value of one of the trainer's options.

    Raises:
        UserError: Always; it says what is wanted.
    """
    raise UserError(f"{name} is {value!r}", where=f"trainer.{name}", fix=f"Give {wanted}.")
