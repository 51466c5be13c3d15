"""A callback made of functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from framework.callback import Callback
from framework.errors import UserError, closest
from framework.every import Every

_WHERE = "callbacks.lambda"
_HOOKS = tuple(name for name in vars(Callback) if name.startswith("on_"))


class LambdaCallback(Callback):
    """Call functions as hooks, without a class of its own for them.

    Each function gets what the hook of that name gets: `run`, and after it what the hook adds, such
    as the `metrics` of `on_log`. Only the given hooks exist: without `on_train_batch_end`, nothing
    wakes the host for every batch. A callback that remembers something needs a class, with `state`.

    Example:
        >>> LambdaCallback(on_epoch_end=lambda run: print(run.metrics["train/loss"]))
        >>> LambdaCallback(every="500st", on_wake=lambda run: run.save_checkpoint())

    Args:
        every: When `on_wake` is called: `500st`, `1ep`, `30s`.
        **hooks: Functions by the name of the hook.

    Raises:
        UserError: If there is no hook of a name, a value is not a function, or one of `every` and
            `on_wake` is given without the other.
    """

    def __init__(self, every: str | None = None, **hooks: Callable[..., Any] | None) -> None:
        given = {name: hook for name, hook in hooks.items() if hook is not None}
        for name, hook in given.items():
            if name not in _HOOKS:
                raise UserError(
                    f"there is no hook {name!r}", where=_WHERE, fix=closest(name, _HOOKS)
                )
            if not callable(hook):
                raise UserError(
                    f"{name} is {hook!r}, not a function",
                    where=f"{_WHERE}.{name}",
                    fix="Give a function; on the command line "
                    "'{_target_: tasks.mine.say, _partial_: true}'.",
                )
        if (every is None) == ("on_wake" in given):
            raise UserError(
                "on_wake and every go together", where=_WHERE, fix="Give both, or neither."
            )
        self.every = None if every is None else Every(every)
        self.__dict__.update(given)
