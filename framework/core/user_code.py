"""Explain failures in the user's own code: what failed, in which line, and how to fix it."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from framework.errors import SEE_TRACEBACK, UserError
from framework.text.escape import without_colours

_LIBRARIES = (Path(keras.__file__).parent, Path(tf.__file__).parent, Path(__file__).parents[1])
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')
_LABEL = re.compile(r"label value of (-?\d+) which is outside the valid range of \[0, (\d+)\)")
_UNFIT = re.compile(
    r"(Matrix size-incompatible|Incompatible shapes|[Dd]imensions? .{0,40}must be equal"
    r"|slice index \d+ of dimension \d+ out of bounds)[^\n]*"
)
_NO_VALUES = re.compile(
    r"no attribute '(numpy|item|tolist)'|\.numpy\(\) is only|symbolic tf\.Tensor"
    r"|argument must be .*'(Symbolic|Keras)Tensor'"
)
_MOST_LINES = 14


@contextmanager
def user_code(where: str, spec: Any = None) -> Iterator[None]:
    """Turn an exception in the task's code into a `UserError` that points at the line.

    `where` is the function, if the traceback does not show it; `spec` the TensorSpecs of the batch
    to show, or a function that returns them.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if str(error).startswith("in user code:") and isinstance(error.__context__, UserError):
            raise error.__context__ from None  # AutoGraph wrapped our own error
        fix, what = SEE_TRACEBACK, _message(error)
        if "out of scope" in str(error) or "InaccessibleTensor" in type(error).__name__:
            what = "a value was logged, returned or kept inside a branch or loop of the step"
            fix = (
                "Log and return after it, not inside it: let the branch or loop produce the value, "
                "then self.log(name, value)."
            )
        elif "merge_call" in str(error):
            what = "an update is inside a branch or loop on tensors"
            fix = (
                "Several devices do not support that: loop with Python's range, for _ in range(3), "
                "and multiply a loss by 0 instead of skipping its update."
            )
        elif "non-persistent GradientTape" in str(error):
            fix = "Open it as tf.GradientTape(persistent=True), and del it afterwards."
        elif re.search("[Uu]nable to lift", str(error)):
            what = "a metric or a layer creates its variables in the step"
            fix = (
                "Several devices do not support that: create them in build_model, for a metric by "
                "calling it once: metric.update_state(y_true, y_pred), metric.reset_state()."
            )
        elif re.search("does not match type|the same dtype|the same type", str(error)):
            fix = (
                "Cast both to one type: tf.cast(y, prediction.dtype), or tf.cast(prediction, "
                "tf.float32). NumPy makes float64; mixed precision makes 16-bit outputs."
            )
        elif _NO_VALUES.search(str(error)):
            fix = (
                "A compiled step has no values for .numpy(), float() or NumPy: use TensorFlow "
                "operations, or run the steps in Python with trainer.engine=eager."
            )
        elif re.search("None values not supported|'NoneType'", str(error)):
            fix = (
                "Something in this line is None. self.total_steps, for example, is None if the "
                "length of the run is unknown: set trainer.max_steps, or check for None first."
            )
        place = _place(error)
        shown = f"{where}, {place}" if place else where
        if callable(spec):
            spec = _spec_of(spec)
        if spec is not None:
            shown += f"\n         on a batch of {describe(spec)}"
        raise UserError(what, where=shown, fix=fix) from error


@contextmanager
def labels_checked(*, cut: bool = False) -> Iterator[None]:
    """Explain in the user's terms that a step met a label outside the network's classes.

    If batches are `cut` into parts, also explain shapes that do not fit.
    """
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found, unfit = _LABEL.search(str(error)), _UNFIT.search(str(error))
        if not found and cut and unfit:
            raise UserError(
                f"a step failed on a part of a batch: {unfit[0]}",
                where=_place(error),
                fix="Say which axis of each tensor holds the rows, and None for one that every "
                "part needs whole: Data(rows_axis=(0, None)).",
            ) from error
        if not found:
            raise
        raise UserError(
            f"a label is {found[1]}, but the network has {found[2]} classes, "
            f"0 to {int(found[2]) - 1}",
            where=_place(error),
            fix="Give the network one output for each class, and count labels from 0.",
        ) from error


def describe(spec: Any) -> str:
    """Return dtypes and shapes of a nest in one line.

    Example:
        >>> describe((tf.TensorSpec([32, 28, 28, 1]), tf.TensorSpec([32], tf.uint8)))
        '(float32 [32, 28, 28, 1], uint8 [32])'
    """
    shown = tf.nest.map_structure(lambda t: f"{t.dtype.name} {list(t.shape)}", spec)
    return str(shown).replace("'", "")


def _spec_of(made: Callable[[], Any]) -> Any:
    try:
        return made()
    except Exception:  # Data's own map or augment fails
        return None


def _place(error: BaseException) -> str | None:
    # AutoGraph generates the frames, so the user's own lines are only in the message.
    # Those of another process are in the cause.
    frames = [(f, int(n)) for f, n, _ in _FRAME.findall(f"{error}\n{error.__cause__}")]
    stack = traceback.extract_tb(error.__traceback__)
    frames = [(f.filename, f.lineno or 0) for f in stack] + frames
    for file, line in reversed(frames):
        path = Path(file)
        own = path.exists() and not any(library in path.parents for library in _LIBRARIES)
        if own and "site-packages" not in path.parts and "autograph_generated" not in file:
            here = path.is_relative_to(Path.cwd())
            return f"{path.relative_to(Path.cwd()) if here else path.name}:{line}"
    return None


def _message(error: BaseException) -> str:
    text = without_colours(error)  # Keras prints names in bold
    if text.startswith("in user code:"):
        # The error's own message follows the quoted frames.
        kept = re.split(r'\n    File "[^"]+", line \d+, in [^\n]*\n        [^\n]*', text)[-1]
        text = inspect.cleandoc(kept) or text
    else:
        text = f"{type(error).__name__}: {text}"
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], "…"]
    return "\n".join(lines)
