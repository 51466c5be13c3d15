"""A trainer framework for Keras 3 on TensorFlow: write a Task, run it with one command.

Example:
    >>> from framework import Data, Task, Trainer
    >>> Trainer(max_epochs=5).fit(MyTask(), Data(train=(x, y)))

Names are imported on first use, so that `--help` does not wait for TensorFlow.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from framework.core.lazy import also_known_as, lazily
from framework.text.escape import PlainText

_WHERE = {
    "Augment": "framework.datasets.augment",
    "Callback": "framework.callback",
    "Data": "framework.data",
    "Every": "framework.every",
    "Histogram": "framework.logger",
    "KerasCallback": "framework.callbacks.keras.wrapper",
    "Logger": "framework.logger",
    "RunView": "framework.callback",
    "StepContext": "framework.step_context",
    "Steps": "framework.data",
    "Task": "framework.task",
    "Trainer": "framework.trainer",
    "TrainingFailed": "framework.errors",
    "UserError": "framework.errors",
    "export": "framework.cli.loaded_run",
    "load": "framework.cli.loaded_run",
}

if TYPE_CHECKING:
    from framework.callback import Callback as Callback
    from framework.callback import RunView as RunView
    from framework.callbacks.keras.wrapper import KerasCallback as KerasCallback
    from framework.cli.loaded_run import export as export
    from framework.cli.loaded_run import load as load
    from framework.data import Data as Data
    from framework.data import Steps as Steps
    from framework.datasets.augment import Augment as Augment
    from framework.errors import TrainingFailed as TrainingFailed
    from framework.errors import UserError as UserError
    from framework.every import Every as Every
    from framework.logger import Histogram as Histogram
    from framework.logger import Logger as Logger
    from framework.step_context import StepContext as StepContext
    from framework.task import Task as Task
    from framework.trainer import Trainer as Trainer

__all__ = [
    "Augment",
    "Callback",
    "Data",
    "Every",
    "Histogram",
    "KerasCallback",
    "Logger",
    "RunView",
    "StepContext",
    "Steps",
    "Task",
    "Trainer",
    "TrainingFailed",
    "UserError",
    "export",
    "load",
]


# Escape quoted text in these messages, whoever displays them.
logging.getLogger("framework").addFilter(PlainText())

__getattr__, __dir__ = lazily(__name__, _WHERE)

# Where these were before the first release, as scripts of that time import them.
also_known_as("framework.callbacks.base", {"Callback": "framework.callback"})
also_known_as("framework.loggers.base", {"Logger": "framework.logger"})
also_known_as("framework.engine.every", {"Every": "framework.every"})
also_known_as(
    "framework.data.source",
    {
        "Data": "framework.data",
        **dict.fromkeys(("Source", "batch_rows", "limited"), "framework.sources.source"),
    },
)
