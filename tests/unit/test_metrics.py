"""Metrics by name."""

from __future__ import annotations

import keras
import pytest

from framework import UserError
from framework.metrics import named_metrics


def test_metrics_by_name() -> None:
    sparse, mean = keras.metrics.sparse_categorical_accuracy, keras.metrics.MeanAbsoluteError()
    assert named_metrics(None) == {}
    assert named_metrics("accuracy") == {"accuracy": sparse}
    assert named_metrics(["accuracy", mean]) == {"accuracy": sparse, mean.name: mean}
    assert named_metrics({"a": "accuracy", "b": sparse}) == {"a": sparse, "b": sparse}
    assert named_metrics([sparse]) == {"sparse_categorical_accuracy": sparse}
    assert isinstance(named_metrics([keras.metrics.AUC])["auc"], keras.metrics.AUC)
    assert "poisson" in named_metrics(["poisson"])  # one that only Keras knows
    with pytest.raises(UserError) as error:
        named_metrics(["acuracy"])
    assert error.value.fix == "Did you mean 'accuracy'?"
    with pytest.raises(UserError, match="3 is not a metric"):
        named_metrics([3])
