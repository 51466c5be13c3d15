"""Trains a network part by part, each with a learning rate of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tensorflow as tf

from framework.callback import Callback
from framework.callbacks.frozen_layers import FrozenLayers, check_released, find_layers
from framework.errors import UserError, closest

if TYPE_CHECKING:
    from framework.callback import RunView

_WHERE = "callbacks.finetuning"
_KEYS = ("layers", "epoch", "rate", "ramp")


@dataclass(frozen=True)
class _Part:
    layers: list[str]
    epoch: int
    rate: float
    ramp: int


class FineTuning(Callback):
    """Unfreeze a network part by part, each with a learning rate of its own and a ramp to it.

    A new head needs large steps, while the pretrained layers below it need small ones, and later:
    their knowledge must not be lost to the gradients of an untrained head. Layers in no part learn
    as always.

    A part's rate is a factor of the optimizer's learning rate, so schedules go on as they are. It
    multiplies each update, weight decay included. The ramp is computed in the graph; the step is
    compiled again only when a part is unfrozen.

    Example:
        >>> FineTuning([
        ...     {"layers": "block3/*", "epoch": 1, "rate": 0.1, "ramp": 500},
        ...     {"layers": ["block1/*", "block2/*"], "epoch": 3, "rate": 0.01, "ramp": 500},
        ... ])

    Args:
        parts: For each part a mapping of: `layers`, names or patterns as for `Freeze`; `epoch`, at
            whose start it is unfrozen, counted from 0 (the default); `rate`, the factor, above 0
            (default 1); `ramp`, the number of steps in which the factor rises from 0 to it
            (default 0).

    Raises:
        UserError: If a part is out of range; in `fit`, if no layer has a given name, a part has no
            trainable weights, or a weight is in two parts.
    """

    def __init__(self, parts: Sequence[Mapping[str, Any]] | None = None) -> None:
        if not parts or isinstance(parts, (str, Mapping)):
            raise UserError(
                f"parts is {parts!r}",
                where=f"{_WHERE}.parts",
                fix='Give a list: [{"layers": "block3/*", "epoch": 1, "rate": 0.1}].',
            )
        self.parts = [_checked(each, f"{_WHERE}.parts[{i}]") for i, each in enumerate(parts)]
        self._frozen: list[FrozenLayers] = []
        self._starts = self._at_first()
        self._first_steps: list[tf.Variable] = []

    def on_setup(self, run: RunView) -> None:
        """Freeze what starts later, and give each part its factor."""
        if run.stage != "fit":
            return
        check_released(self._frozen, _WHERE)
        places = [f"{_WHERE}.parts[{i}].layers" for i in range(len(self.parts))]
        self._frozen = [
            FrozenLayers(find_layers(run.task.model, part.layers, where))
            for part, where in zip(self.parts, places, strict=True)
        ]
        self._check_weights(places)
        self._first_steps = [tf.Variable(0, dtype=tf.int64, trainable=False) for _ in self.parts]
        self._tell()
        for part, frozen, first in zip(self.parts, self._frozen, self._first_steps, strict=True):
            if run.updates is not None and (part.ramp or part.rate != 1.0):
                run.updates.scale(frozen.weights, _factor(part, first))
            if part.epoch > 0:
                frozen.freeze()

    def on_epoch_start(self, run: RunView) -> None:
        """Unfreeze the parts that start with this epoch."""
        changed = False
        for number, part in enumerate(self.parts):
            learns = part.epoch <= run.progress.epoch
            if learns and self._starts[number] is None:
                self._starts[number] = run.progress.step
            changed |= self._frozen[number].set(not learns)
        self._tell()
        if changed:
            run.recompile()

    def on_fit_end(self, run: RunView) -> None:
        """Restore whether each layer was trainable."""
        for each in self._frozen:
            each.release()

    def state(self) -> dict[str, Any]:
        """Return the step at which each part started to learn."""
        return {"starts": list(self._starts)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore what `state` returned."""
        starts = list(state["starts"])
        # Continued with other parts: one that already learns does so from where the run is.
        self._starts = starts if len(starts) == len(self.parts) else self._at_first()
        self._tell()

    def _at_first(self) -> list[int | None]:
        return [None if part.epoch else 0 for part in self.parts]

    def _tell(self) -> None:
        """Write the first steps where the graph reads them."""
        for variable, start in zip(self._first_steps, self._starts, strict=False):
            variable.assign(start or 0)

    def _check_weights(self, places: Sequence[str]) -> None:
        owner: dict[int, str] = {}
        for frozen, where in zip(self._frozen, places, strict=True):
            if not frozen.weights:
                raise UserError(
                    "these layers have no trainable weights",
                    where=where,
                    fix="Name layers that have weights, and leave them trainable in build_model.",
                )
            for weight in frozen.weights:
                other = owner.setdefault(id(weight), where)
                if other != where:
                    raise UserError(
                        f"{weight.path} is also in {other}",
                        where=where,
                        fix="Give each layer to one part.",
                    )


def _factor(part: _Part, first: tf.Variable) -> Any:
    def factor(step: Any) -> Any:
        if not part.ramp:
            return part.rate
        done = tf.cast(tf.cast(step, tf.int64) - first + 1, tf.float32) / part.ramp
        return part.rate * tf.clip_by_value(done, 0.0, 1.0)

    return factor


def _checked(given: Any, where: str) -> _Part:
    if not isinstance(given, Mapping):
        _refuse(where, given, 'a mapping: {"layers": "block3/*", "epoch": 1, "rate": 0.1}')
    for key in given:
        if key not in _KEYS:
            raise UserError(f"there is no {key!r} here", where=where, fix=closest(str(key), _KEYS))
    layers, epoch = given.get("layers", ""), given.get("epoch", 0)
    rate, ramp = given.get("rate", 1.0), given.get("ramp", 0)
    names = [layers] if isinstance(layers, str) else list(layers or ())
    if not names or not all(isinstance(name, str) and name for name in names):
        _refuse(f"{where}.layers", layers, 'the names of layers: "conv1", or ["conv1", "block2_*"]')
    if type(epoch) is not int or epoch < 0:
        _refuse(f"{where}.epoch", epoch, "the number of an epoch, from 0")
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
        _refuse(f"{where}.rate", rate, "a factor of the learning rate above 0, such as 0.1")
    if type(ramp) is not int or ramp < 0:
        _refuse(f"{where}.ramp", ramp, "a whole number of steps, 0 for none")
    return _Part(names, epoch, float(rate), ramp)


def _refuse(where: str, value: object, wanted: str) -> None:
    raise UserError(f"{where.rpartition('.')[2]} is {value!r}", where=where, fix=f"Give {wanted}.")
