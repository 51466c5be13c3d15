"""A table with two classes, one of them rare: weights of classes, and AUC."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from framework import UserError
from tasks.classifier import Classifier


class TableImbalance(Classifier):
    """Predict the second of two classes from the numbers and the categories of a table.

    Each category is embedded in a few numbers, and joins the numbers in a small perceptron. Where
    one class is rare, accuracy says little: `task.class_weight=balanced` makes both count alike in
    the loss, and AUC does not depend on how frequent they are.
    """

    def build_model(self) -> keras.Model:
        """Return the network from the columns that were learned from the training rows."""
        net, columns = self.network, columns_of(self)
        inputs: dict[str, Any] = {}
        parts: list[Any] = []
        if columns.numbers:
            inputs["numbers"] = keras.Input((len(columns.numbers),), name="numbers")
            parts.append(inputs["numbers"])
        if columns.categories:
            given = keras.Input((len(columns.categories),), dtype="int32", name="categories")
            inputs["categories"] = given
            for place, column in enumerate(columns.categories):
                width = min(net.embedding, column.size)
                name = f"embed_{place}"
                parts.append(layers.Embedding(column.size, width, name=name)(given[:, place]))
        x = parts[0] if len(parts) == 1 else layers.Concatenate()(parts)
        for units in net.dense_units:
            x = layers.Dense(units, activation="relu")(x)
            x = layers.Dropout(net.dropout)(x)
        outputs = layers.Dense(1, activation="sigmoid", dtype="float32")(x)
        return keras.Model(inputs, layers.Flatten(dtype="float32")(outputs), name="table_imbalance")


def columns_of(task: Any) -> Any:
    """Return the columns of a task's table."""
    columns = task.runtime.preprocessing
    if not hasattr(columns, "categories"):
        raise UserError(
            f"{type(task).__name__} needs a table", where="data", fix="Give data=table data.file=…"
        )
    return columns
