"""The weights of a task's models by a name that a log can show."""

from __future__ import annotations

from typing import Any

from framework.core.models_by_name import models_of


def weights_by_name(model: Any) -> dict[str, Any]:
    """Return the trainable weights of a task's models by `<layer>/<variable>`.

    A layer inside another one comes with its path, `backbone/conv1/kernel`; with several models,
    the model's name comes first.

    Example:
        >>> list(weights_by_name(keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])))
        ['dense/kernel', 'dense/bias']

    Args:
        model: A model, a layer, or a dict of them by name.
    """
    models, found = models_of(model), dict[str, Any]()
    for name, each in models.items():
        for variable in each.trainable_variables:
            path = variable.path.removeprefix(f"{each.name}/")
            path = f"{name}/{path}" if len(models) > 1 else path
            number, unique = 1, path
            while unique in found:  # two layers may have one name
                number += 1
                unique = f"{path}_{number}"
            found[unique] = variable
    return found
