"""What AutoGraph converts: a task's own steps, and nothing of the framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import tensorflow as tf

from framework.compat import autographed

F = TypeVar("F", bound=Callable[..., Any])


def not_converted(function: F) -> F:
    """Keep AutoGraph, which converts a task's step and what it calls, out of what needs none."""
    kept_out: F = tf.autograph.experimental.do_not_convert(function)
    return kept_out


def autograph(function: Callable[..., Any], context: Any) -> Callable[..., Any]:
    """Return a function whose `if`, `for` and `while` on tensors become graph operations.

    Args:
        function: The user's own.
        context: AutoGraph's state outside of what is `not_converted`.
    """
    return autographed(function, context)
