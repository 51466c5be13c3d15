"""Saves and restores random generators around an evaluation."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from typing import Any

import numpy as np

from framework.compat import eager_random_state
from framework.devices.replicas import plain
from framework.step.find_objects import handles

_KERAS, _TENSORFLOW = "seed_generator_state", "StateVar"
_FAR = 2**30  # more draws than training makes; Keras takes them modulo 2**31 - 2


def generators(variables: Iterable[Any], written: Set[int] | None) -> list[Any]:
    """Return the variables that are the state of a generator and that a step may draw from.

    `written` has the handles of what the steps write; None: unknown.
    """
    return [
        v
        for v in variables
        if (str(getattr(v, "path", "")).endswith(_KERAS) or str(v.name).startswith(_TENSORFLOW))
        and (written is None or handles(v) & written)
    ]


@contextmanager
def set_aside(states: Iterable[Any], seed: int, *, host: bool) -> Iterator[None]:
    """Make generators draw the same numbers in every body, and restore them afterwards.

    `host` seeds those of Python and NumPy, too, if no other thread draws from them.
    """
    parts = [
        (part, str(v.name).startswith(_TENSORFLOW))
        for v in states
        for part in getattr(plain(v), "values", (plain(v),))
    ]
    before = [part.numpy() for part, _ in parts]
    python, numpy = random.getstate(), np.random.get_state()
    eager = eager_random_state()
    operations = eager.getstate() if eager is not None else None
    try:
        for (part, of_tensorflow), value in zip(parts, before, strict=True):
            part.assign(_elsewhere(value, of_tensorflow=of_tensorflow))
        if eager is not None:
            eager.seed(_FAR + seed)
        if host:
            random.seed(seed)
            np.random.seed(seed % 2**32)
        yield
    finally:
        for (part, _), value in zip(parts, before, strict=True):
            part.assign(value)
        if eager is not None:
            eager.setstate(operations)
        if host:
            random.setstate(python)
            np.random.set_state(numpy)


def _elsewhere(state: np.ndarray, *, of_tensorflow: bool) -> np.ndarray:
    """Return a fixed generator state, far from the states that training uses."""
    found = state.copy()
    if of_tensorflow:  # a counter, and then the key
        found[:-1] = 0
        found[-2] = _FAR
    else:  # the seed, and the number of draws
        found[1] = _FAR
    return found
