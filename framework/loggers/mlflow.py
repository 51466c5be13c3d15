"""Sends a run to MLflow."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from framework.errors import UserError
from framework.loggers.destination import Destination
from framework.loggers.journal import Memory
from framework.loggers.mlflow_server import MLflowServer
from framework.loggers.tracker import TrackerLogger

_log = logging.getLogger("framework")

_WEB = ("http", "https")
_SCHEMES = (
    *_WEB, "file", "sqlite", "mysql", "postgresql", "mssql", "databricks", "databricks-uc", "uc",
)  # fmt: skip


class MLflowLogger(TrackerLogger):
    """Send parameters, metrics, tags, artifacts and the trained model to MLflow.

    A run directory is one run of MLflow, however often it is stopped and continued. Its status is
    RUNNING while `fit` runs, then FINISHED, FAILED, or KILLED if a signal interrupted it. Each
    metric has its full name, `train/loss`, and the same history as in `metrics.csv`. Values after
    the last checkpoint are sent once the next one is on the disk, because MLflow cannot drop them
    if the run is continued.

    The artifacts are `config.yaml`, `result.json`, texts, images, and `model`, which is what `fit`
    ended with, and what a test after it has judged. `mlflow.pyfunc.load_model` loads it.

    A server that is down or slow does not delay the run. What it does not have yet is kept in
    `trackers/mlflow`, and sent when it is back, or by the next command with this run directory.

    Example:
        >>> logger = MLflowLogger("http://127.0.0.1:5000", experiment="digits")
        >>> Trainer(run_dir="runs/a", loggers=[logger], max_epochs=3).fit(task)

    Args:
        tracking_uri: The server, or a database such as `sqlite:///mlflow.db`. Default: the
            environment variable `MLFLOW_TRACKING_URI`, else MLflow's own default.
        experiment: The name of the experiment; created if missing.
        run_name: The name of the run. Default: that of the run directory.
        log_model: Whether to send the model at the end of a run.
        timeout: Seconds for which the end of a stage waits for what is not sent yet.

    Raises:
        UserError: MLflow is not installed, or the tracking URI is malformed.
    """

    name, title = "mlflow", "MLflow"

    def __init__(
        self,
        tracking_uri: str | None = None,
        experiment: str = "Default",
        run_name: str | None = None,
        log_model: bool = True,
        timeout: float = 10.0,
    ) -> None:
        super().__init__(timeout)
        self.tracking_uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or None
        self.experiment, self.run_name, self.sends_model = experiment, run_name, log_model
        if self.tracking_uri is not None:
            _check_uri(self.tracking_uri)

    def connect(self, memory: Memory) -> Destination:
        """Return the server; nothing is sent to it yet."""
        name = self.run_name or self._run_dir.absolute().name
        return MLflowServer(self.tracking_uri, self.experiment, name, memory)

    def log_model(self, name: str, model: Any, step: int) -> None:
        """Send a model in MLflow's format, unless its server has that of the same step."""
        assert self._outbox is not None
        kept = self._outbox.memory.values.get("models", {})
        if not self.sends_model or kept.get(name) == step:
            return
        directory = self._file(f"{name.replace('/', '-')}-{step}")
        shutil.rmtree(directory, ignore_errors=True)
        try:
            _save(model, directory)
        except Exception as error:  # a model of the user's own may not be one that Keras can save
            _log.warning(
                "the model is not sent to MLflow, because Keras cannot save it: %s",
                " ".join(str(error).split())[:200],
            )
            return
        self._add("model", {"name": name, "path": str(directory)})
        self._outbox.memory.update(models={**kept, name: step})


def _save(model: Any, directory: Path) -> None:
    import keras

    from framework.loggers.mlflow_server import quiet_mlflow

    quiet_mlflow()
    import mlflow.keras

    needs = [f"keras=={keras.__version__}", "tensorflow"]
    mlflow.keras.save_model(model, str(directory), pip_requirements=needs)


def _check_uri(uri: str) -> None:
    try:
        parts = urlsplit(uri)
        scheme = parts.scheme.partition("+")[0]
        wrong = (scheme in _WEB and not parts.hostname) or (parts.port or 1) < 1
    except ValueError:
        wrong, scheme = True, ""
    if wrong or (scheme not in _SCHEMES if scheme else ":" in uri):
        raise UserError(
            f"{uri!r} is not the address of an MLflow server",
            where="MLflowLogger(tracking_uri=...)",
            fix="Give http://<host>:<port>, or a database: sqlite:///mlflow.db.",
        )
