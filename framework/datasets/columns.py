"""The columns of a table as a network gets them: what was learned of each from training rows."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from framework.errors import UserError, choice

Values = Mapping[str, np.ndarray]  # by column: numbers with NaN, or Python objects with None

_WORD = re.compile(r"[\w']+")
_log = logging.getLogger("framework")


@dataclass(frozen=True)
class Number:
    """A column of numbers: `(value - mean) / scale`, and 0 for a missing one."""

    name: str
    mean: float
    scale: float

    @classmethod
    def learned(cls, name: str, values: np.ndarray) -> Number:
        """Learn the mean and the standard deviation, which is replaced by 1 if it is 0."""
        there = values[~np.isnan(values)]
        return cls(name, float(there.mean()), float(there.std()) or 1.0)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the column as float32."""
        scaled = (numbers(values, self.name) - self.mean) / self.scale
        return np.nan_to_num(scaled, nan=0.0).astype(np.float32)


@dataclass(frozen=True)
class Category:
    """A column of categories: their numbers from 1 on, and 0 for one that training never had.

    A missing value is a category like others, if there was one in training.
    """

    name: str
    values: tuple[str | None, ...]

    @classmethod
    def learned(cls, name: str, values: np.ndarray) -> Category:
        """Learn the values, in alphabetical order; a missing one comes last."""
        found = {_text(value) for value in values.tolist()}
        missing = (None,) if None in found else ()
        return cls(name, (*sorted(each for each in found if each is not None), *missing))

    @property
    def size(self) -> int:
        """How many numbers there are, as the `input_dim` of an embedding."""
        return len(self.values) + 1

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the column as int32."""
        known = {value: number for number, value in enumerate(self.values, 1)}
        found = (known.get(_text(value), 0) for value in values.tolist())
        return np.fromiter(found, np.int32, len(values))


@dataclass(frozen=True)
class Words:
    """A column of texts: the numbers of their first words from 2 on, padded with 0.

    Words are lower-case runs of letters, digits and apostrophes. 1 stands for any other word than
    the most frequent ones of training, and for a text without any, which would have no mean.
    """

    name: str
    vocabulary: tuple[str, ...]
    length: int

    @classmethod
    def learned(cls, name: str, values: np.ndarray, length: int, most: int) -> Words:
        """Learn the most frequent words; those of one frequency are in alphabetical order."""
        counts = Counter(word for value in values.tolist() for word in _words(value))
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(name, tuple(ranked[: most - 2]), length)

    @property
    def size(self) -> int:
        """How many numbers there are, as the `input_dim` of an embedding."""
        return len(self.vocabulary) + 2

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return the column as int32, of shape [rows, length]."""
        known = {word: number for number, word in enumerate(self.vocabulary, 2)}
        found = np.zeros((len(values), self.length), np.int32)
        for row, value in zip(found, values.tolist(), strict=True):
            words = _words(value)[: self.length]
            row[: max(1, len(words))] = [known.get(word, 1) for word in words] or 1
        return found


@dataclass(frozen=True)
class Target:
    """The column to predict: a number, or a class by its place among the names of classes."""

    name: str
    classes: tuple[str, ...] = ()

    def __call__(self, values: np.ndarray, rows: str) -> np.ndarray:
        """Return the labels: int64 for classes and whole numbers, else float32."""
        missing = is_missing(values)
        if missing.any():
            raise UserError(
                f"the target {self.name!r} is missing in {missing.sum():,} of {len(values):,} "
                f"{rows} rows, first in row {int(missing.argmax()):,}",
                where="data.target",
                fix="Leave those rows out of the file.",
            )
        if not self.classes:
            return values.astype(np.int64 if values.dtype.kind in "iu" else np.float32)
        known = {name: number for number, name in enumerate(self.classes)}
        texts = [str(_text(value)) for value in values.tolist()]
        others = sorted(set(texts) - set(known))
        if others:
            raise UserError(
                f"the {rows} rows have a class {others[0]!r} of {self.name!r}, which the training "
                "rows do not have",
                where="data.target",
                fix=f"They have {', '.join(self.classes[:20])}.",
            )
        return np.array([known[text] for text in texts], np.int64)


@dataclass(frozen=True)
class Columns:
    """What is done to raw rows of a table before the network: the preprocessing of `data=table`.

    It is small, is saved with the run as `preprocessing.json`, and needs no data to be rebuilt:
    `framework.datasets.preprocessing.load_preprocessing("runs/a")`.

    Example:
        >>> columns = Columns((Number("age", 40.0, 10.0),), (Category("city", ("Oslo", "Rome")),))
        >>> columns({"age": [50, None], "city": ["Rome", "Bern"]})
        {'numbers': array([[1.], [0.]], dtype=float32), 'categories': array([[2], [0]], ...)}

    Attributes:
        numbers: The columns of `inputs["numbers"]`.
        categories: The columns of `inputs["categories"]`.
        texts: Each is an input by its own name.
        target: The column to predict.
    """

    numbers: tuple[Number, ...] = ()
    categories: tuple[Category, ...] = ()
    texts: tuple[Words, ...] = ()
    target: Target | None = None

    def __call__(self, rows: Mapping[str, Any], what: str = "given") -> dict[str, np.ndarray]:
        """Return what the network gets for rows, given as columns by name; `what` they are."""
        values = {name: as_values(rows[name]) for name in self.names if name in rows}
        for name in self.names:
            if name not in values:
                raise missing_column(name, list(rows), f"the {what} rows")
        inputs: dict[str, np.ndarray] = {}
        if self.numbers:
            inputs["numbers"] = _side_by_side(self.numbers, values)
        if self.categories:
            inputs["categories"] = found = _side_by_side(self.categories, values)
            for column, unknown in zip(self.categories, (found == 0).sum(axis=0), strict=True):
                if unknown:
                    _log.warning(
                        "%s: %s of %s %s rows have a value that the training rows do not have; it "
                        "gets the number 0", column.name, f"{unknown:,}", f"{len(found):,}", what
                    )  # fmt: skip
        return inputs | {column.name: column(values[column.name]) for column in self.texts}

    def labels(self, rows: Mapping[str, Any], what: str = "given") -> np.ndarray:
        """Return the labels of rows."""
        assert self.target is not None
        if self.target.name not in rows:
            raise missing_column(self.target.name, list(rows), f"the {what} rows")
        return self.target(as_values(rows[self.target.name]), what)

    @property
    def names(self) -> list[str]:
        """The names of the columns that the network gets, in order."""
        columns: list[Number | Category | Words] = [*self.numbers, *self.categories, *self.texts]
        return [column.name for column in columns]

    def state(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return asdict(self)

    @classmethod
    def of_state(cls, state: Mapping[str, Any]) -> Columns:
        """Return what had this state."""
        target = state["target"]
        return cls(
            tuple(Number(**each) for each in state["numbers"]),
            tuple(Category(e["name"], tuple(e["values"])) for e in state["categories"]),
            tuple(Words(e["name"], tuple(e["vocabulary"]), e["length"]) for e in state["texts"]),
            target and Target(target["name"], tuple(target["classes"])),
        )


def numbers(values: np.ndarray, name: str) -> np.ndarray:
    """Return a column as float64 with NaN for what is missing; refuse text and infinity."""
    if values.dtype == object:
        row = next((n for n, value in enumerate(values) if isinstance(value, str)), None)
        if row is not None:
            raise UserError(
                f"column {name!r} is wanted as numbers, but is text: {values[row][:40]!r} in row "
                f"{row:,}",
                where=f"column {name}",
                fix="Correct the file; or make it a category: data.categories=[...], or leave it "
                "out: data.drop=[...].",
            )
    found: np.ndarray = values.astype(np.float64)
    if np.isinf(found).any():
        raise UserError(
            f"column {name!r} has infinity in row {int(np.isinf(found).argmax()):,}",
            where=f"column {name}",
            fix="Leave the value empty if it is missing, or correct it.",
        )
    return found


def as_values(column: Any) -> np.ndarray:
    """Return a column as an array: numbers, or objects with None for what is missing."""
    found: np.ndarray = np.asarray(column)
    if found.dtype.kind not in "USOb":
        return found
    found = found.astype(object)
    found[[value is None or value != value for value in found]] = None
    kinds = {type(value) for value in found.tolist()} - {type(None)}
    return found.astype(np.float64) if kinds and kinds <= {int, float} else found


def missing_column(name: str, there: Sequence[str], where: str) -> UserError:
    """Return the message about a column that a table does not have."""
    return UserError(f"there is no column {name!r}", where=where, fix=choice(name, there))


def is_missing(values: np.ndarray) -> np.ndarray:
    """Return which values of a column are missing."""
    if values.dtype == object:
        return np.fromiter((value is None for value in values), bool, len(values))
    found: np.ndarray = np.isnan(values.astype(np.float64, copy=False))
    return found


def _side_by_side(columns: Sequence[Number] | Sequence[Category], values: Values) -> np.ndarray:
    return np.stack([column(values[column.name]) for column in columns], axis=1)


def _text(value: Any) -> str | None:
    """Return a category as text: a whole number is the same with and without a decimal point."""
    if value is None or value != value:
        return None
    if isinstance(value, (bool, np.bool_)):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _words(value: Any) -> list[str]:
    return _WORD.findall(str(value).lower()) if value is not None else []
