"""What TensorBoard needs to compare runs: their hyperparameters, their ends, common charts."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.core.statuses import ENDED

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event

SUCCEEDED = {**dict.fromkeys(ENDED, True), "failed": False}
"""Whether a run that ended so succeeded. An interrupted one has not ended: it can continue."""


def session_start(hparams: Mapping[str, Any]) -> Event:
    """Return the event that makes a directory a session of the HParams tab.

    Example:
        >>> session_start({"seed": 0, "optimizer.learning_rate": 0.001}).summary.value[0].tag
        '_hparams_/session_start_info'

    Args:
        hparams: Numbers, truth values and texts by name.
    """
    from tensorboard.compat.proto import event_pb2
    from tensorboard.plugins.hparams import api

    # An empty trial_id groups no runs: each session has the name of its directory.
    return event_pb2.Event(
        wall_time=time.time(), summary=api.hparams_pb(dict(hparams), trial_id="")
    )


def session_end(succeeded: bool) -> Event:
    """Return the event that gives a session its status: SUCCESS or FAILURE."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.plugins.hparams import api_pb2, summary

    status = api_pb2.STATUS_SUCCESS if succeeded else api_pb2.STATUS_FAILURE
    ended = summary.session_end_pb(status).SerializeToString()
    return event_pb2.Event(wall_time=time.time(), summary=summary_pb2.Summary.FromString(ended))


def chart_layout(tags: Iterable[str]) -> tuple[str, np.ndarray[Any, Any], Any]:
    """Return the summary that lays out the Custom Scalars tab: its tag, its value, its metadata.

    Each metric has one chart, which overlays training, validation and test.

    Args:
        tags: The tags of scalars, as in `loss`, `accuracy`, `steps/loss`.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2, metadata

    pages: dict[str, list[str]] = {"Train, validation and test": [], "Between the epochs": []}
    epochs, steps = pages.values()
    for tag in sorted(tags):
        (steps if tag.startswith("steps/") else epochs).append(tag)
    layout = layout_pb2.Layout(
        category=[
            layout_pb2.Category(title=title, chart=map(_chart, shown))
            for title, shown in pages.items()
            if shown
        ]
    )
    value = np.array(layout.SerializeToString(), dtype=object)
    return metadata.CONFIG_SUMMARY_TAG, value, metadata.create_summary_metadata()


def _chart(tag: str) -> Any:
    from tensorboard.plugins.custom_scalar import layout_pb2

    lines = layout_pb2.MultilineChartContent(tag=[f"^{re.escape(tag)}$"])
    return layout_pb2.Chart(title=tag.removeprefix("steps/"), multiline=lines)
