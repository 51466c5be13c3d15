"""Learns from the training rows of a table what is done to each column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from framework.datasets.columns import (
    Category,
    Columns,
    Number,
    Target,
    Words,
    is_missing,
    missing_column,
    numbers,
)
from framework.errors import UserError, choice

TARGETS = ("auto", "classes", "number")
_FEW = 100  # categories that are never too many


@dataclass(frozen=True)
class Wishes:
    """What a user says of the columns of a table.

    Attributes:
        target: The column to predict.
        columns: The columns to use. Empty: all but the target.
        drop: Columns to leave out.
        numbers: Columns that have to be numbers.
        categories: Columns of numbers to treat as categories, such as codes.
        text: Columns of text to split into words.
        text_length: Words of a text that the network gets.
        vocabulary: Numbers for words, including those for padding and for unknown ones.
        target_kind: `classes`, `number`, or `auto`: classes if the target is text or true/false.
    """

    target: str
    columns: Sequence[str] = ()
    drop: Sequence[str] = ()
    numbers: Sequence[str] = ()
    categories: Sequence[str] = ()
    text: Sequence[str] = ()
    text_length: int = 64
    vocabulary: int = 20_000
    target_kind: str = "auto"

    def __post_init__(self) -> None:
        if self.target_kind not in TARGETS:
            raise UserError(
                f"target_kind is {self.target_kind!r}",
                where="data.target_kind",
                fix=choice(self.target_kind, TARGETS),
            )
        for name, least in (("text_length", 1), ("vocabulary", 3)):
            if getattr(self, name) < least:
                raise UserError(
                    f"{name} is {getattr(self, name)}",
                    where=f"data.{name}",
                    fix=f"Give {least} or more.",
                )


def learn_columns(rows: Mapping[str, np.ndarray], wishes: Wishes) -> Columns:
    """Return what is done to each column, from the training rows alone.

    Numbers become numbers; text and true/false become categories.

    Example:
        >>> learn_columns({"age": np.array([30.0, 50.0]), "y": np.array([0, 1])}, Wishes("y"))
        Columns(numbers=(Number(name='age', mean=40.0, scale=10.0),), categories=(), texts=(), ...)

    Args:
        rows: The columns of the training rows by name, as `read_columns` returns them.
        wishes: What the user says of them.

    Raises:
        UserError: A column is missing, is empty, or is not of the wanted kind.
    """
    named: dict[str, Sequence[str]] = {
        name: getattr(wishes, name) for name in ("columns", "drop", "numbers", "categories", "text")
    }
    for option, names in {"target": [wishes.target], **named}.items():
        for name in names:
            if name not in rows:
                raise missing_column(name, list(rows), f"data.{option}")
    used = [name for name in wishes.columns or rows if name not in {wishes.target, *wishes.drop}]
    if not used:
        raise UserError(
            "no column is left to learn from", where="data.columns", fix=f"There are {list(rows)}."
        )
    found_numbers, categories, texts = [], [], []
    for name in used:
        values = rows[name]
        _refuse_empty(name, values)
        if name in wishes.text:
            texts.append(Words.learned(name, values, wishes.text_length, wishes.vocabulary))
        elif name in wishes.numbers or (values.dtype != object and name not in wishes.categories):
            found_numbers.append(Number.learned(name, numbers(values, name)))
        else:
            categories.append(_category(name, values, sure=name in wishes.categories))
    target = _target(rows[wishes.target], wishes)
    return Columns(tuple(found_numbers), tuple(categories), tuple(texts), target)


def _refuse_empty(name: str, values: np.ndarray) -> None:
    if is_missing(values).all():
        raise UserError(
            f"column {name!r} is empty in all {len(values):,} training rows",
            where=f"column {name}",
            fix=f"Leave it out: data.drop=[{name}].",
        )


def _category(name: str, values: np.ndarray, *, sure: bool) -> Category:
    odd = next(
        (v for v in values.tolist() if not isinstance(v, (str, bool, int, float, None.__class__))),
        None,
    )
    if odd is not None:
        raise UserError(
            f"column {name!r} holds values such as {str(odd)[:40]!r} ({type(odd).__name__})",
            where=f"column {name}",
            fix=f"Store numbers or text in it, or leave it out: data.drop=[{name}].",
        )
    found = Category.learned(name, values)
    if not sure and len(found.values) > max(_FEW, len(values) / 2):
        shown = ", ".join(repr(value) for value in found.values[:3])
        raise UserError(
            f"column {name!r} is text with {len(found.values):,} different values in "
            f"{len(values):,} training rows: {shown}, ...",
            where=f"column {name}",
            fix=f"Leave it out: data.drop=[{name}]; split it into words: data.text=[{name}]; or "
            f"take each as a category: data.categories=[{name}]. If it should be numbers, "
            f"data.numbers=[{name}] finds what is not.",
        )
    return found


def _target(values: np.ndarray, wishes: Wishes) -> Target:
    text = values.dtype == object
    if text and wishes.target_kind == "number":
        numbers(values, wishes.target)  # refuses it, with the row
    if wishes.target_kind == "classes" or (text and wishes.target_kind == "auto"):
        names = Category.learned(wishes.target, values).values
        classes = [name for name in names if name is not None]
        if values.dtype.kind in "iuf":
            classes.sort(key=float)
        return Target(wishes.target, tuple(classes))
    return Target(wishes.target)
