"""Applies AutoGraph to a task's own steps, but not to the framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from framework.compat import autographed

F = TypeVar("F", bound=Callable[..., Any])


def not_converted(function: F) -> F:
    """Exclude a function that a task's step calls from AutoGraph."""
    kept_out: F = tf.autograph.experimental.do_not_convert(function)
    return kept_out


def autograph(function: Callable[..., Any], context: Any) -> Callable[..., Any]:
    """Convert `if`, `for` and `while` on tensors in a user's function to graph operations.

    `context` is AutoGraph's state outside functions that are `not_converted`.
    """
    converted: Callable[..., Any] = autographed(function, context)
    return converted
