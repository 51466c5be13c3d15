"""Building a task's model, and what to say when its code fails."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras
import tensorflow as tf

from framework.core.models import models_of
from framework.core.text import without_colours
from framework.errors import SEE_TRACEBACK, UserError
from framework.sources.rows_axis import rows_open
from framework.sources.source import Source
from framework.step.open_rows import built_layers, leave_rows_open

if TYPE_CHECKING:
    from framework.task import Task

_LIBRARIES = (Path(keras.__file__).parent, Path(tf.__file__).parent, Path(__file__).parents[1])
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in (\w+)')
_LABEL = re.compile(r"label value of (-?\d+) which is outside the valid range of \[0, (\d+)\)")
_NO_VALUES = re.compile(
    r"no attribute '(numpy|item|tolist)'|\.numpy\(\) is only|symbolic tf\.Tensor"
    r"|argument must be .*'(Symbolic|Keras)Tensor'"
)
_MOST_LINES = 14


def build_model(task: Task) -> Any:
    """Return the task's model, or say what `build_model` gave instead."""
    where = f"{type(task).__name__}.build_model"
    with user_code(where):
        model = task.build_model()
    models = models_of(model)
    for name, each in models.items():
        if not isinstance(each, keras.Layer):
            what = f"{type(each).__name__}" + (f" for {name!r}" if len(models) > 1 else "")
            raise UserError(
                f"build_model returned a {what}, not a keras.Model",
                where=where,
                fix="Return the model, a layer, or a dict of them by name.",
            )
    if not models:
        fix = "Return a keras.Model, or a dict of them by name."
        raise UserError("build_model returned no model", where=where, fix=fix)
    return model


def is_built(model: Any) -> bool:
    """Tell whether every model has its weights."""
    return all(each.built for each in models_of(model).values())


def build_by_tracing(
    step: Callable[[Any], Any], spec: Any, task: Task, name: str, rows_axis: Any = 0
) -> None:
    """Give a model its weights by tracing a step on a batch of the data's shape.

    Nothing runs: the trace is thrown away, and only the weights that it made are kept.

    Args:
        step: Called with a symbolic batch.
        spec: The nest of TensorSpecs of a batch.
        task: Whose model it is.
        name: The step's name, for messages.
        rows_axis: Which axis of a batch's tensors holds its rows.
    """
    where, models = f"{type(task).__name__}.{name}", list(models_of(task.model).values())
    before = built_layers(models)
    try:
        _trace(step, rows_open(spec, rows_axis))
    except Exception:  # a step may want to know the number of rows
        with user_code(where, spec), _in_python(task, where):
            _trace(step, spec)
        leave_rows_open(models, before)
    made = [each for model in models for each in model._flatten_layers() if id(each) not in before]
    for layer in made:
        if hasattr(layer, "finalize_state"):  # what it computed of its variables was a symbol
            layer.finalize_state()
    for model, copy, _ in task.followers:  # a step need not call them
        if model.built and not copy.built:
            copy.build_from_config(model.get_build_config())
    if not is_built(task.model):
        missing = [n for n, m in models_of(task.model).items() if not m.built]
        raise UserError(
            f"{name} never calls the model"
            + (f" {', '.join(map(repr, missing))}" if len(models_of(task.model)) > 1 else ""),
            where=f"{type(task).__name__}.{name}",
            fix="Call self.model(x) in it, or return a built model: "
            "keras.Sequential([keras.Input(shape), ...]).",
        )


@contextmanager
def _in_python(task: Task, where: str) -> Iterator[None]:
    """Say that a step which runs in Python, with values, may have none of them here."""
    try:
        yield
    except Exception as error:
        if task.trainer.config.engine != "eager" or not _NO_VALUES.search(str(error)):
            raise
        raise UserError(
            "the model gets its weights by tracing the step on the shape of the data, and the "
            f"step needs values: {_message(error)}",
            where=where,
            fix="Return a built model: keras.Sequential([keras.Input(shape), ...]), or call "
            "model.build((None, features)) in build_model.",
        ) from error


def _trace(step: Callable[[Any], Any], spec: Any) -> None:
    # Not tf.function, which traces twice what makes variables.
    with tf.__internal__.FuncGraph("build").as_default():
        step(tf.nest.map_structure(lambda s: tf.compat.v1.placeholder(s.dtype, s.shape), spec))


@contextmanager
def user_code(where: str, spec: Any = None) -> Iterator[None]:
    """Turn an exception of the task's code into a `UserError` that points at its line.

    Args:
        where: The function it happened in, in case the traceback does not tell.
        spec: The TensorSpecs of the batch that it was given, to be shown, or its source.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if str(error).startswith("in user code:") and isinstance(error.__context__, UserError):
            raise error.__context__ from None  # AutoGraph has wrapped what we said ourselves
        fix, what = SEE_TRACEBACK, _message(error)
        if "out of scope" in str(error) or "InaccessibleTensor" in type(error).__name__:
            what = "a value was logged, returned or kept inside a branch or loop of the step"
            fix = (
                "Log and return after it, not inside it: let the branch or loop give the value, "
                "then self.log(name, value)."
            )
        elif "merge_call" in str(error):
            what = "an update stands inside a branch or loop on tensors"
            fix = (
                "On several devices it cannot: loop with Python's own range, for _ in range(3), "
                "and weigh a loss by 0 instead of leaving its update out."
            )
        elif "non-persistent GradientTape" in str(error):
            fix = "Open it as tf.GradientTape(persistent=True), and del it afterwards."
        elif re.search("does not match type|the same dtype|the same type", str(error)):
            fix = (
                "Bring both to one type: tf.cast(y, prediction.dtype), or tf.cast(prediction, "
                "tf.float32). NumPy makes float64; mixed precision makes 16-bit outputs."
            )
        elif _NO_VALUES.search(str(error)):
            fix = (
                "A compiled step has no values for .numpy(), float() or NumPy: use TensorFlow "
                "operations, or run the steps in Python by trainer.engine=eager."
            )
        elif re.search("None values not supported|'NoneType'", str(error)):
            fix = (
                "Something in this line is None, as self.total_steps is where the length of the "
                "run is unknown: give trainer.max_steps, or look for None before."
            )
        place = _place(error)
        shown = f"{where}, {place}" if place else where
        if isinstance(spec, Source):
            spec = _spec_of(spec)
        if spec is not None:
            shown += f"\n         on a batch of {describe(spec)}"
        raise UserError(what, where=shown, fix=fix) from error


@contextmanager
def labels_checked() -> Iterator[None]:
    """Say in the user's terms that a running step met a label outside the network's classes."""
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = _LABEL.search(str(error))
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


def _spec_of(source: Source) -> Any:
    try:
        return source.spec()
    except Exception:  # it is Data's own map or augment that fails
        return None


def _place(error: BaseException) -> str | None:
    # AutoGraph puts the user's own lines into the message, since its frames are generated.
    frames = [(f, int(n)) for f, n, _ in _FRAME.findall(str(error))]
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
        # What follows the quoted frames is the message of the error itself.
        kept = re.split(r'\n    File "[^"]+", line \d+, in [^\n]*\n        [^\n]*', text)[-1]
        text = inspect.cleandoc(kept) or text
    else:
        text = f"{type(error).__name__}: {text}"
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if len(lines) > _MOST_LINES:
        lines = [*lines[:_MOST_LINES], "…"]
    return "\n".join(lines)
