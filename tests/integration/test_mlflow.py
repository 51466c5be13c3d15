"""Runs that are killed and continued, as a real MLflow server shows them afterwards."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from tracked import begin, columns

pytest.importorskip("mlflow", reason='needs pip install ".[mlflow]"')

TRAIN = """
import json, os, signal, sys, time
import numpy as np
from helpers import Net, blobs, busy_data, make_trainer
from framework import Callback, Every
from framework.callbacks import Checkpoint
from framework.loggers import CSVLogger, MLflowLogger

place, uri, die_at, pause = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
waited = 0.0


class Timed(MLflowLogger):
    def log_metrics(self, *args):
        global waited
        began = time.perf_counter()
        super().log_metrics(*args)
        waited += time.perf_counter() - began

    def mark_durable(self, step):
        global waited
        began = time.perf_counter()
        super().mark_durable(step)
        waited += time.perf_counter() - began


class Slow(Callback):
    every = Every("1st")

    def on_wake(self, run):
        time.sleep(pause)
        if run.progress.step == die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if run.progress.step == 13:
            run.log_images("val/pairs", np.full((1, 4, 4, 3), 0.5))


logger = Timed(uri, experiment="killed", timeout=60.0)
save = Checkpoint(save_every="10st")
options = dict(max_epochs=8, run_dir=place, seed=3, log_every="5st", val_every="1ep")
trainer = make_trainer(
    loggers=[CSVLogger(), logger], callbacks=[Slow(), save], hparams={"seed": 3, "a/b?": "c"},
    **options,
)
task, data = Net(), busy_data(test=blobs(21, seed=2))
began = time.perf_counter()
trainer.fit(task, data)
trained = time.perf_counter() - began
trainer.test(task, data)
np.save(place + "/predicted.npy", task.model.predict(blobs(5)[0], verbose=0))
print(json.dumps({"waited": waited, "trained": trained, "mlflow": "mlflow" in sys.modules}))
"""


class Server:
    """An MLflow server with a database of its own, which can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        options = ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
        options += ["--backend-store-uri", f"sqlite:///{self.directory}/runs.db"]
        options += ["--artifacts-destination", str(self.directory / "artifacts")]
        quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with open(self.directory / "server.log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *options],
                cwd=self.directory,
                env=os.environ | quiet,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(f"{self.uri}/health", timeout=5).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.1)

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def get(self, what: str, **query: Any) -> Any:
        address = f"{self.uri}/api/2.0/mlflow/{what}"
        with urllib.request.urlopen(f"{address}?{urlencode(query)}", timeout=30) as answer:
            return json.load(answer)

    def runs(self, experiment: str) -> list[Any]:
        found = self.get("experiments/get-by-name", experiment_name=experiment)
        body = json.dumps({"experiment_ids": [found["experiment"]["experiment_id"]]}).encode()
        request = urllib.request.Request(
            f"{self.uri}/api/2.0/mlflow/runs/search",
            data=body,
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return list(json.load(answer).get("runs", []))

    def history(self, run: str, name: str) -> list[tuple[int, float]]:
        found = self.get("metrics/get-history", run_id=run, metric_key=name)
        points = [(int(each["step"]), float(each["value"])) for each in found["metrics"]]
        return sorted(points)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("mlflow"))
    yield made
    made.kill()


def until(holds: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_killed_run_and_a_killed_server_leave_one_whole_run(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    place = tmp_path / "run"
    server.wait()
    for die_at in (33, 67):
        process = begin(["train.py", place, server.uri, die_at, 0.1], tmp_path)
        process.communicate(timeout=300)
        assert process.returncode == -signal.SIGKILL
        (run,) = server.runs("killed")
        assert run["info"]["status"] == "RUNNING"
        name = run["info"]["run_id"]
        points = server.history(name, "train/loss")
        assert points
        assert points[-1][0] <= die_at // 10 * 10  # nothing after the last checkpoint
    process = begin(["train.py", place, server.uri, 0, 0.1], tmp_path)
    until(lambda: len(server.history(name, "train/loss")) > len(points))
    server.kill()
    server.start()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    told = json.loads(out.splitlines()[-1])
    assert told["waited"] < told["trained"] / 60  # less than a second a minute
    assert err.count("MLflow cannot be reached") <= 1

    (run,) = server.runs("killed")
    assert run["info"]["status"] == "FINISHED"
    assert run["info"]["run_name"] == "run"
    found = columns(place / "metrics.csv")
    assert set(found) == {m["key"] for m in run["data"]["metrics"]}
    assert {"train/loss", "train/loss_epoch", "val/loss", "test/accuracy"} <= set(found)
    for name, points in found.items():
        assert server.history(run["info"]["run_id"], name) == points
    params = {each["key"]: each["value"] for each in run["data"]["params"]}
    assert params == {"seed": "3", "a/b_": "c"}
    tags = {each["key"]: each["value"] for each in run["data"]["tags"]}
    assert tags["task"] == "Net"
    assert tags["stop_reason"] == "max_epochs=8 reached"
    assert "version.keras" in tags
    check_artifacts(server, run["info"]["run_id"], place)


def check_artifacts(server: Server, run: str, place: Path) -> None:
    from helpers import blobs

    top = {each["path"] for each in server.get("artifacts/list", run_id=run)["files"]}
    texts = {"data.txt", "model.txt", "stop_reason.txt"}
    assert top == {"images", "model", "result.json"} | texts
    images = server.get("artifacts/list", run_id=run, path="images/val/pairs")["files"]
    assert [each["path"] for each in images] == ["images/val/pairs/val-pairs-00000013-0.png"]
    import mlflow.pyfunc

    mlflow.set_tracking_uri(server.uri)
    model = mlflow.pyfunc.load_model(f"runs:/{run}/model")
    np.testing.assert_array_equal(model.predict(blobs(5)[0]), np.load(place / "predicted.npy"))


def test_sigterm_is_killed_and_the_same_command_finishes_it(server: Server, tmp_path: Path) -> None:
    (tmp_path / "conf" / "task").mkdir(parents=True)
    (tmp_path / "net.py").write_text(
        "from helpers import Net as Base, busy_data\n"
        "class Net(Base):\n"
        "    def build_data(self):\n"
        "        return busy_data()\n"
    )
    (tmp_path / "conf" / "task" / "net.yaml").write_text("_target_: net.Net\n")
    server.wait()

    def command(epochs: int) -> list[str]:
        return [
            "-m", "framework", "task=net", "run_dir=run", "loggers=[csv,tensorboard,mlflow]",
            f"loggers.mlflow.tracking_uri={server.uri}", "loggers.mlflow.experiment=stopped",
            f"trainer.max_epochs={epochs}", "trainer.engine=graph", "seed=1",
        ]  # fmt: skip

    process = begin(command(1_000_000), tmp_path)
    until(lambda: (tmp_path / "run" / "checkpoints").is_dir() or process.poll() is not None)
    process.terminate()
    out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "mlflow" not in (out + err).lower().replace("loggers.mlflow", "").replace(
        "tensorboard,mlflow", ""
    )
    (run,) = server.runs("stopped")
    assert run["info"]["status"] == "KILLED"
    assert columns(tmp_path / "run" / "metrics.csv")["train/loss_epoch"] == server.history(
        run["info"]["run_id"], "train/loss_epoch"
    )
    last = json.loads((tmp_path / "run" / "result.json").read_text())["epoch"]
    process = begin(command(last + 2), tmp_path)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    (run,) = server.runs("stopped")
    assert run["info"]["status"] == "FINISHED"
    for name, points in columns(tmp_path / "run" / "metrics.csv").items():
        assert server.history(run["info"]["run_id"], name) == points
    tags = {each["key"]: each["value"] for each in run["data"]["tags"]}
    assert tags["changed.trainer.max_epochs"] == str(last + 2)
    listed = server.get("artifacts/list", run_id=run["info"]["run_id"])["files"]
    assert {"config.yaml", "result.json", "model"} <= {each["path"] for each in listed}


def test_what_cannot_be_taken_back_waits_and_a_lost_answer_makes_no_second_run(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from framework.loggers import MLflowLogger

    server.wait()
    logger = MLflowLogger(server.uri, experiment="failed", timeout=60.0)
    logger.open(tmp_path / "run", 0)
    logger.log_config({}, {"rate": 0.1})
    logger.log_metrics({"train/loss": float("inf"), "train/a?b": float("nan")}, 10, 1)
    logger.mark_durable(10)
    logger.log_metrics({"train/loss": 2.0}, 20, 1)
    logger.log_model("model", "no model", 20)
    logger.log_end("failed", {}, None)
    logger.close()
    (run,) = server.runs("failed")
    assert run["info"]["status"] == "FAILED"
    assert server.history(run["info"]["run_id"], "train/loss") == [(10, sys.float_info.max)]
    assert "train/a_b" in {each["key"] for each in run["data"]["metrics"]}
    assert any("Keras cannot save it" in each.message for each in caplog.records)

    sent = tmp_path / "run" / "trackers" / "mlflow" / "sent.json"
    kept = json.loads(sent.read_text())
    del kept["run_id"]  # the process was killed before it had written the id
    sent.write_text(json.dumps(kept))
    logger.open(tmp_path / "run", 10)
    logger.log_config({}, {"rate": 0.2})
    logger.log_metrics({"train/loss": 1.5}, 20, 1)
    logger.mark_durable(20)
    logger.log_end("completed", {}, None)
    logger.close()
    (again,) = server.runs("failed")
    assert again["info"]["run_id"] == run["info"]["run_id"]
    assert again["info"]["status"] == "FINISHED"
    points = server.history(run["info"]["run_id"], "train/loss")
    assert points == [(10, sys.float_info.max), (20, 1.5)]
    assert {"key": "rate", "value": "0.1"} in again["data"]["params"]
    assert {"key": "changed.rate", "value": "0.2"} in again["data"]["tags"]
