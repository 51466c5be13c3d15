"""Predictions over the evaluated data, computed once for all pictures that show them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.callbacks.pictures.picture import Picture
from framework.callbacks.pictures.recognition import Entry, Recognition
from framework.core.statuses import ENDED
from framework.errors import UserError
from framework.every import Every

if TYPE_CHECKING:
    from framework.callback import RunView

_log = logging.getLogger("framework")


@dataclass(frozen=True)
class Judged:
    """The right classes and the predictions of one set.

    Attributes:
        labels: The class of each row: int64 [rows].
        probabilities: What the model says: float32 [rows, classes].
        names: A name for each class.
    """

    labels: np.ndarray
    probabilities: np.ndarray
    names: Sequence[str]

    @property
    def predicted(self) -> np.ndarray:
        """The most probable class of each row."""
        return np.asarray(self.probabilities.argmax(axis=1))

    @property
    def accuracy(self) -> float:
        """The fraction of rows whose most probable class is right."""
        return float((self.predicted == self.labels).mean())


@dataclass
class _Parts:
    labels: list[np.ndarray] = field(default_factory=list)
    probabilities: list[np.ndarray] = field(default_factory=list)

    def judged(self, names: Sequence[str]) -> Judged:
        probabilities = np.concatenate(self.probabilities)
        classes = probabilities.shape[1]
        named = names if len(names) == classes else [str(number) for number in range(classes)]
        return Judged(np.concatenate(self.labels), probabilities, named)


class JudgedPicture(Picture):
    """Base of the pictures that show predictions of the validation or test set.

    They are drawn at the end of `fit`, `validate` and `test`, and in training with `every`. The
    weights are those that an evaluation uses, so an average of the weights (`EMA`) in their place.
    One pass over the data serves all of them that are due; it keeps probabilities and labels, not
    inputs. It changes nothing of the run.

    Args:
        every: Draw in training too, at this interval, such as `1ep`.
        labels: Where a batch has the labels, if it is not `(x, y)`: the key of an entry, or a
            function of the batch.
        probabilities: Where the prediction has the probabilities or logits, [rows, classes]: the
            key of an entry, or a function of what `predict_step` returns.
    """

    def __init__(
        self, every: str | None = None, labels: Entry = None, probabilities: Entry = None
    ) -> None:
        super().__init__()
        self.every = None if every is None else Every(every)
        self.labels, self.probabilities = labels, probabilities
        self._shared: Mapping[str, Judged] | None = None
        self._drawn: int | None = None
        self._refused = False

    def draw(self, run: RunView, stage: str, judged: Judged) -> None:
        """Draw one set.

        Args:
            run: The run.
            stage: See `Picture.show`.
            judged: The set's labels and predictions.
        """
        raise NotImplementedError

    def begin_pass(self) -> None:
        """Called before the predictions are computed."""

    def notice(self, stage: str, batch: Any, labels: np.ndarray, probabilities: np.ndarray) -> None:
        """Called for each batch of that pass, to keep something of it."""

    # ---- when

    def on_setup(self, run: RunView) -> None:
        """Forget what another stage has computed and said."""
        super().on_setup(run)
        self._shared = self._drawn = None
        self._refused = False

    def on_wake(self, run: RunView) -> None:
        """Draw, as `every` is due."""
        self._draw_all(run, "val")

    def on_wake_end(self, run: RunView) -> None:
        """Drop the predictions."""
        self._shared = None

    def on_fit_end(self, run: RunView) -> None:
        """Draw, unless this step has been drawn or the run was cut short."""
        ended = run.status in ENDED and not run.already_complete
        if ended and self._drawn != run.progress.step:
            self._draw_all(run, "val")
        self._drop_after(run)

    def on_validation_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Draw what `validate` has judged."""
        if run.stage == "validate":
            self._draw_all(run, "val")
            self._drop_after(run)

    def on_test_end(self, run: RunView, metrics: Mapping[str, float]) -> None:
        """Draw what `test` has judged."""
        self._draw_all(run, "test")
        self._drop_after(run)

    # ---- what

    def _draw_all(self, run: RunView, stage: str) -> None:
        self._drawn = run.progress.step
        if self._refused:
            return
        peers = self._peers(run)
        if peers[0]._shared is None:
            peers[0]._shared = self._compute(run, stage, peers)
        if run.is_chief:  # the others have only helped to compute
            for name, judged in peers[0]._shared.items():
                self.draw(run, name, judged)

    def _peers(self, run: RunView) -> list[JudgedPicture]:
        """Return the pictures that read predictions as this one does, itself included."""
        found = [each for each in run.callbacks if isinstance(each, JudgedPicture)]
        how = (self.labels, self.probabilities)
        return [each for each in found if (each.labels, each.probabilities) == how] or [self]

    def _drop_after(self, run: RunView) -> None:
        peers = self._peers(run)
        if self is peers[-1]:
            peers[0]._shared = None

    def _compute(
        self, run: RunView, stage: str, peers: Sequence[JudgedPicture]
    ) -> Mapping[str, Judged]:
        """Predict every set; warn and return nothing if it is not classification."""
        read = Recognition(run.task, self.labels, self.probabilities)
        parts: dict[str, _Parts] = {}
        for peer in peers:
            peer.begin_pass()

        def visit(name: str, batch: Any, output: Any) -> None:
            labels, probabilities = read(batch, output)
            full = f"{stage}/{name}" if name else stage
            found = parts.setdefault(full, _Parts())
            found.labels.append(labels)
            found.probabilities.append(probabilities)
            for peer in peers:
                peer.notice(full, batch, labels, probabilities)

        try:
            if not run.each_prediction(visit):
                return {}
        except UserError as problem:
            self.say(problem, ", ".join(peer.name for peer in peers))
            for peer in peers:
                peer._refused = True
            return {}
        judged = {name: found.judged(run.class_names) for name, found in parts.items()}
        self._check_names(run, judged)
        return judged

    def _check_names(self, run: RunView, judged: Mapping[str, Judged]) -> None:
        classes = {found.probabilities.shape[1] for found in judged.values()}
        if run.class_names and classes - {len(run.class_names)}:
            _log.warning(
                "the data name %d classes, and the model has %s: pictures show numbers instead",
                len(run.class_names),
                " and ".join(map(str, sorted(classes))),
            )
