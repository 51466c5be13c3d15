"""Resolve the metrics of a task, and give each a name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from framework.errors import UserError, closest

METRICS = {
    "accuracy": "sparse_categorical_accuracy",
    "top5": "sparse_top_k_categorical_accuracy",
    "categorical_accuracy": "categorical_accuracy",
    "binary_accuracy": "binary_accuracy",
    "mse": "mean_squared_error",
    "mae": "mean_absolute_error",
    "auc": "AUC",
}
"""Functions and classes of `keras.metrics` by their names on the command line."""


def named_metrics(given: Any) -> dict[str, Any]:
    """Return metrics by name, in whatever form they were given.

    Example:
        >>> list(named_metrics(["accuracy", keras.metrics.AUC(name="auc")]))
        ['accuracy', 'auc']

    Args:
        given: None; or one or several of: a Keras metric, a function `(y_true, y_pred)`, or a name
            that `metrics=` accepts on the command line or that Keras knows. Several come in a list,
            or in a dict by the name to log.

    Raises:
        UserError: There is no metric with that name, or the object is not a metric.
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(name): _metric(each) for name, each in given.items()}
    several = given if isinstance(given, (list, tuple)) else [given]
    found: dict[str, Any] = {}
    for each in several:
        metric = _metric(each)
        name = each if isinstance(each, str) else _name_of(metric)
        if name in found:
            raise UserError(
                f"two metrics are called {name!r}",
                where="metrics",
                fix='Give them by name: {"top1": ..., "top5": ...}.',
            )
        found[name] = metric
    return found


def _name_of(metric: Any) -> str:
    name = getattr(metric, "name", None) or getattr(metric, "__name__", None)
    return str(name or type(metric).__name__.lower())


def _metric(given: Any) -> Any:
    import keras

    if isinstance(given, type):
        return given()
    if callable(given) or isinstance(given, keras.Metric):
        return given
    if not isinstance(given, str):
        raise UserError(
            f"{given!r} is not a metric",
            where="metrics",
            fix="Give a Keras metric, a function of (y_true, y_pred), or a name: 'accuracy'.",
        )
    if given in METRICS:
        found = getattr(keras.metrics, METRICS[given])
        return found() if isinstance(found, type) else found
    try:
        return keras.metrics.get(given)
    except ValueError:
        known = {n for n in dir(keras.metrics) if n[0].isalpha() and n != "get"}
        raise UserError(
            f"there is no metric {given!r}", where="metrics", fix=_near(given, known | {*METRICS})
        ) from None


def _near(name: str, known: set[str]) -> str:
    hint = closest(name, known)
    return hint if hint.startswith("Did") else closest(name, METRICS)
