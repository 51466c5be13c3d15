"""MLflow as the destination of an outbox."""

from __future__ import annotations

import logging
import math
import os
import re
import shutil
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.loggers.destination import Refused
from framework.loggers.journal import Entry, Memory

_log = logging.getLogger("framework")

_KEY = "keras-task-framework.run"
_STATUS = {
    "running": "RUNNING",
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "pruned": "FINISHED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
_FOR_GOOD = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "INVALID_STATE", "RESOURCE_DOES_NOT_EXIST"}
_METRICS, _PARAMS = 1000, 100  # that MLflow takes in one batch
_LONGEST_VALUE, _LONGEST_KEY = 6000, 250
_LARGEST = math.nextafter(math.inf, 0.0)


def quiet_mlflow() -> None:
    """Set what MLflow reads when it is imported, where the user has not.

    It neither writes to the terminal nor reports its use to its makers, and a request fails soon:
    trying again is the outbox's task.
    """
    for name, value in {
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }.items():
        os.environ.setdefault(name, value)


class MLflowServer:
    """One run on an MLflow server, created when the first entries are sent.

    Example:
        >>> server = MLflowServer("http://127.0.0.1:5000", "digits", "first", memory)
        >>> server.send([Entry(1, "metrics", 50, time.time(), {"values": {"train/loss": 2.5}})])
        True

    Args:
        uri: The address; None: MLflow's default.
        experiment: The name of the experiment.
        run_name: The name of a new run.
        memory: Holds the id of the run.
    """

    def __init__(self, uri: str | None, experiment: str, run_name: str, memory: Memory) -> None:
        self._uri, self._experiment, self._name, self._memory = uri, experiment, run_name, memory
        self._client: Any = None
        self._checked = False

    def send(self, entries: Sequence[Entry]) -> bool:
        """Send entries; see `Destination.send`."""
        from mlflow.exceptions import MlflowException

        self._connect()
        try:
            run = self._run()
            self._send_metrics(run, [entry for entry in entries if entry.kind == "metrics"])
            for entry in entries:
                if entry.kind not in ("metrics", "histogram"):
                    getattr(self, f"send_{entry.kind}")(run, entry)
        except MlflowException as error:
            if error.error_code in _FOR_GOOD:
                raise Refused(str(error)) from error
            raise
        return True

    def recorded(self, names: Collection[str]) -> Mapping[str, tuple[int, float]]:
        """Return the last step and value of each metric; see `Destination.recorded`."""
        self._connect()
        found = {}
        run = self._memory.values.get("run_id")
        for name in names if run else ():
            points = self._client.get_metric_history(run, _key(name))
            if points:
                last = max(points, key=lambda point: (point.step, point.timestamp))
                found[name] = last.step, last.value
        return found

    def close(self) -> None:
        """Do nothing: what was sent has arrived."""

    # ---- one method for each kind of entry

    def send_params(self, run: str, entry: Entry) -> None:
        """Send hyperparameters. MLflow never changes one, so a different value becomes a tag."""
        from mlflow.entities import Param

        known = self._client.get_run(run).data.params
        given = {_key(name): _text(value) for name, value in entry.body.items()}
        changed = {n: v for n, v in given.items() if n in known and known[n] != v}
        new = [Param(name, value) for name, value in given.items() if name not in known]
        for start in range(0, len(new), _PARAMS):
            self._client.log_batch(run, params=new[start : start + _PARAMS])
        if changed:
            _log.warning(
                "MLflow keeps the parameters that the run began with; what differs now is in the "
                "tags changed.…: %s",
                ", ".join(changed),
            )
            self._tag(run, {f"changed.{name}": value for name, value in changed.items()})

    def send_tags(self, run: str, entry: Entry) -> None:
        """Send tags; a later value replaces an earlier one."""
        commit = entry.body.get("git.commit")
        known = {} if commit is None else {"mlflow.source.git.commit": commit}
        self._tag(run, {**entry.body, **known})

    def send_text(self, run: str, entry: Entry) -> None:
        """Send a text as an artifact."""
        self._client.log_text(run, entry.body["text"], f"{_file(entry.body['name'])}.txt")

    def send_image(self, run: str, entry: Entry) -> None:
        """Send an image as an artifact, and remove the file that kept it until now."""
        path = Path(entry.body["path"])
        if path.exists():
            self._client.log_artifact(run, str(path), f"images/{_file(entry.body['name'])}")
            path.unlink()

    def send_file(self, run: str, entry: Entry) -> None:
        """Send a file of the run as an artifact."""
        if os.path.isfile(entry.body["path"]):
            self._client.log_artifact(run, entry.body["path"])

    def send_model(self, run: str, entry: Entry) -> None:
        """Send a model's directory, and remove it here."""
        path = entry.body["path"]
        if os.path.isdir(path):
            self._client.log_artifacts(run, path, _file(entry.body["name"]))
            shutil.rmtree(path, ignore_errors=True)

    def send_status(self, run: str, entry: Entry) -> None:
        """Send the status of the run, with the time of its end."""
        status = _STATUS[entry.body["status"]]
        if status == "RUNNING":
            self._client.update_run(run, status=status)
        else:
            self._client.set_terminated(run, status, int(entry.time * 1000))

    # ---- the rest

    def _connect(self) -> None:
        if self._client is None:
            quiet_mlflow()
            from mlflow.tracking import MlflowClient

            for name in ("alembic", "mlflow"):  # they write about a new database
                logging.getLogger(name).setLevel(logging.ERROR)
            self._client = MlflowClient(tracking_uri=self._uri)

    def _run(self) -> str:
        """Return the id of the run; find or create it first."""
        if "run_id" in self._memory.values:
            return str(self._memory.values["run_id"])
        asked = "key" in self._memory.values
        if not asked:
            self._memory.update(key=uuid.uuid4().hex)
        key = self._memory.values["key"]
        experiment = self._experiment_id()
        # A process that was killed, or an answer that was lost, may have left the run behind.
        wanted = f"tags.`{_KEY}` = '{key}'"
        found = self._client.search_runs([experiment], wanted, max_results=1) if asked else []
        run = found[0] if found else self._client.create_run(
            experiment, tags={_KEY: key, **_origin()}, run_name=self._name
        )  # fmt: skip
        self._memory.update(run_id=run.info.run_id)
        return str(run.info.run_id)

    def _experiment_id(self) -> str:
        from mlflow.exceptions import MlflowException

        found = self._client.get_experiment_by_name(self._experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self._experiment))
        except MlflowException:  # another run has just created it
            found = self._client.get_experiment_by_name(self._experiment)
            if found is None:
                raise
            return str(found.experiment_id)

    def _send_metrics(self, run: str, entries: Sequence[Entry]) -> None:
        from mlflow.entities import Metric

        points = [
            Metric(_key(name), _finite(value), int(entry.time * 1000), entry.step or 0)
            for entry in entries
            for name, value in entry.body["values"].items()
        ]
        for start in range(0, len(points), _METRICS):
            self._client.log_batch(run, metrics=points[start : start + _METRICS])

    def _tag(self, run: str, tags: Mapping[str, Any]) -> None:
        from mlflow.entities import RunTag

        self._client.log_batch(run, tags=[RunTag(_key(n), _text(v)) for n, v in tags.items()])


def _origin() -> dict[str, str]:
    import getpass

    try:
        return {"mlflow.user": getpass.getuser()}
    except (OSError, KeyError, ImportError):  # a container may have no name for its user
        return {}


def _key(name: str) -> str:
    return re.sub(r"[^\w\-. :/]", "_", name)[:_LONGEST_KEY]


def _text(value: Any) -> str:
    return str(value)[:_LONGEST_VALUE]


def _file(name: str) -> str:
    return re.sub(r"[^\w\-. /]", "_", name).strip("/. ") or "text"


def _finite(value: float) -> float:
    """Return the value as MLflow stores it: it has NaN, but no infinity."""
    return max(-_LARGEST, min(_LARGEST, value)) if math.isinf(value) else value
