"""Recognizes classification: which classes are right, and how probable a model says each is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from framework.core.user_code import user_code
from framework.errors import UserError
from framework.task import Task

Entry = str | int | Callable[[Any], Any] | None
"""How a user says where something is: the key of an entry, or a function that returns it."""

_CLOSE = 0.02  # rows of 16-bit probabilities add up to 1 no more exactly than this


class Recognition:
    """Read batches and predictions as classification.

    By itself it takes a batch `(x, y)` with y as class numbers or one-hot, and predictions of shape
    [rows, classes], or one number per row for two classes. Whether those are logits or
    probabilities follows from the loss's `from_logits` if the predictions are the model's own
    outputs; otherwise they are probabilities if each row adds up to 1.

    Example:
        >>> read = Recognition(task)
        >>> labels, probabilities = read((x, np.array([0, 1])), np.array([[2.0, 0.0], [0.0, 3.0]]))

    Args:
        task: The task that predicts.
        labels: Where a batch has the labels, if it is not `(x, y)`.
        probabilities: Where the prediction has the probabilities or logits.
    """

    def __init__(self, task: Any, labels: Entry = None, probabilities: Entry = None) -> None:
        self._task, self._labels, self._probabilities = task, labels, probabilities
        self._logits: bool | None = None

    def __call__(self, batch: Any, output: Any) -> tuple[np.ndarray, np.ndarray]:
        """Return the class of each row, int64 [rows], and float32 probabilities [rows, classes].

        Raises:
            UserError: It is not recognized; the message says which argument tells.
        """
        scores = self._scores(output)
        single = scores.ndim == 1 or scores.shape[1] == 1
        probabilities = self._two_classes(scores) if single else self._many_classes(scores)
        return self._classes(batch, len(scores), probabilities.shape[1]), probabilities

    def _scores(self, output: Any) -> np.ndarray:
        found = entry(output, self._probabilities, "probabilities")
        if isinstance(found, (Mapping, list, tuple)):
            parts = list(found.values() if isinstance(found, Mapping) else found)
            found = parts[0] if len(parts) == 1 else found
        if isinstance(found, (Mapping, list, tuple)):
            raise _unclear(f"predict_step returns {described(found)}", "probabilities")
        array = np.asarray(found)
        if array.dtype.kind in "biuSOU" or array.ndim not in (1, 2) or not array.size:
            raise _unclear(f"predict_step returns {described(array)}", "probabilities")
        return array.astype(np.float32)

    def _many_classes(self, scores: np.ndarray) -> np.ndarray:
        if self._logits is None:
            sums = np.abs(scores.sum(axis=1) - 1) < _CLOSE
            known = self._known_logits()
            outside = not _within(scores)
            self._logits = outside or (not sums.all() if known is None else known)
            if not self._logits and not sums.all():
                what = "predict_step returns numbers from 0 to 1 whose rows do not add up to 1"
                raise _unclear(what, "probabilities")
        if not self._logits:
            return scores
        powers: np.ndarray = np.exp((scores - scores.max(axis=1, keepdims=True)).astype(np.float64))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    def _two_classes(self, scores: np.ndarray) -> np.ndarray:
        scores = scores.reshape(-1)
        if self._logits is None:
            self._logits = not _within(scores) or bool(self._known_logits())
        if self._logits:
            scores = 0.5 + 0.5 * np.tanh(0.5 * scores)  # the sigmoid, without overflow
        return np.stack([1 - scores, scores], axis=1).astype(np.float32)

    def _known_logits(self) -> bool | None:
        """Return what the loss or the last activation says of the model's own outputs."""
        own = getattr(type(self._task), "predict_step", None) is Task.predict_step
        if not own or callable(self._probabilities):
            return None
        loss = getattr(self._task, "loss", None)
        found = getattr(loss, "from_logits", None)
        found = getattr(loss, "keywords", {}).get("from_logits") if found is None else found
        if found is not None:
            return bool(found)
        known = {"linear": True, "softmax": False, "sigmoid": False}
        return known.get(_last_activation(self._task.model))

    def _classes(self, batch: Any, rows: int, classes: int) -> np.ndarray:
        found = batch
        if self._labels is not None:
            found = entry(batch, self._labels, "labels")
        elif isinstance(batch, (list, tuple)) and len(batch) >= 2:
            found = batch[1]
        else:
            raise _unclear(f"a batch is {described(batch)}, not (x, y)", "labels")
        if isinstance(found, (Mapping, list, tuple)):
            raise _unclear(f"the labels are {described(found)}", "labels")
        labels = np.asarray(found)
        what = f"the labels are {described(labels)} for {classes} classes"
        if labels.dtype.kind in "SOU" or len(labels) != rows:
            raise _unclear(what, "labels")
        if labels.shape == (rows, classes) and classes > 1:
            soft = labels.astype(np.float64)
            if not (_within(soft) and (np.abs(soft.sum(axis=1) - 1) < _CLOSE).all()):
                raise _unclear(f"{what}, and a row is not one class", "labels")
            return np.asarray(soft.argmax(axis=1))
        if labels.size != rows:
            raise _unclear(what, "labels")
        numbers = labels.reshape(-1).astype(np.float64)
        whole = np.isfinite(numbers).all() and (numbers == np.floor(numbers)).all()
        if not whole or numbers.min() < 0 or numbers.max() >= classes:
            between = f"from {numbers.min():g} to {numbers.max():g}"
            raise _unclear(f"the labels go {between}, for {classes} classes", "labels")
        return numbers.astype(np.int64)


def entry(found: Any, where: Entry, argument: str) -> Any:
    """Return an entry of a nest.

    Args:
        found: The nest.
        where: The key of the entry, or a function that returns it. None: the nest itself.
        argument: The argument that says so, for messages.

    Raises:
        UserError: There is no such entry.
    """
    if where is None:
        return found
    if callable(where):
        with user_code(argument):
            return where(found)
    try:
        return found[where]
    except (KeyError, IndexError, TypeError, ValueError):
        raise UserError(
            f"{argument} is {where!r}, and there is only {described(found)}",
            where=argument,
            fix="Give the key of an entry, or a function that returns it.",
        ) from None


def described(nest: Any) -> str:
    """Return a nest in a few words.

    Example:
        >>> described((np.zeros((8, 2), np.float32), {"a": np.zeros(8, np.int64)}))
        '(float32 [8, 2], {a: int64 [8]})'
    """
    if isinstance(nest, Mapping):
        return "{" + ", ".join(f"{k}: {described(v)}" for k, v in nest.items()) + "}"
    if isinstance(nest, (list, tuple)):
        return "(" + ", ".join(map(described, nest)) + ")"
    array = np.asarray(nest)
    return f"{array.dtype.name} {list(array.shape)}"


def _unclear(what: str, argument: str) -> UserError:
    return UserError(
        f"this does not look like classification: {what}",
        where=argument,
        fix=f"Give {argument}=, the key of an entry or a function that returns it.",
    )


def _within(scores: np.ndarray) -> bool:
    return bool(scores.min() >= -1e-6 and scores.max() <= 1 + _CLOSE)


def _last_activation(model: Any) -> str:
    layers = getattr(model, "layers", None) or [model]
    activation = getattr(layers[-1], "activation", None)
    return str(getattr(activation, "__name__", ""))
