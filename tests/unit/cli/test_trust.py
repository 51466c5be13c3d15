"""What a run directory that somebody sent may name, and what it may not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cli_project import Run, project, run

from framework.cli.trust import check_config, check_override
from framework.errors import UserError

__all__ = ["project", "run"]

REFUSED = [
    "os.system",
    "builtins.open",
    "builtins.eval",
    "numpy.load",
    "subprocess.Popen",
    "importlib.import_module",
    "runs.evil.Mine",
    "runs.b.evil.Mine",
    "elsewhere.Mine",
    "this.s",
    "hydra.utils.instantiate",
    "framework.cli.main",
    "framework.run.result.write_result",
    "framework.datasets.download.fetch",
    "keras.utils.get_file",
    "keras.saving.load_model",
    "keras.models.load_model",
    "keras.config.enable_unsafe_deserialization",
    "keras.layers.Lambda",
    "keras.layers.TFSMLayer",
    "keras.layers.deserialize",
    "keras.layers.Dense.from_config",
    "keras.losses.get",
    "keras.callbacks.ModelCheckpoint",
    "keras.src.backend.tensorflow.tf",
    "tensorflow.keras.layers.Dense",
    "os",
    "",
]
ALLOWED = [
    "cliproj.mine.Mine",
    "framework.callbacks.ema.EMA",
    "framework.datasets.named.image_data",
    "framework.schedules.WarmupCosine",
    "keras.optimizers.Adam",
    "keras.optimizers.schedules.CosineDecay",
    "keras.losses.Huber",
    "keras.metrics.sparse_top_k_categorical_accuracy",
    "keras.layers.Dense",
    "keras.initializers.HeNormal",
    "keras.regularizers.L2",
    "keras.callbacks.EarlyStopping",
]


@pytest.fixture
def sent(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for folder in ("runs/a", "runs/b"):
        (project / folder).mkdir(parents=True)
        (project / folder / "evil.py").write_text("class Mine: ...\n")
    monkeypatch.syspath_prepend(str(project))
    (project / "runs/evil.py").write_text("class Mine: ...\n")
    return project / "runs/a"


@pytest.mark.parametrize("name", REFUSED)
def test_a_name_that_could_do_harm_is_refused_wherever_it_hides(sent: Path, name: str) -> None:
    for node in (
        {"loss": {"_target_": name}},
        {"task": {"x": [[{"y": ({"_target_": name, "_partial_": True},)}]]}},
        {"data": {"_target_": "keras.layers.Dense", "_args_": [{"_target_": name}]}},
    ):
        with pytest.raises(UserError, match="the run names") as caught:
            check_config([node], sent, [])
        assert f"trust=[{name}]" in str(caught.value)


@pytest.mark.parametrize("name", ALLOWED)
def test_what_a_run_needs_is_allowed(sent: Path, name: str) -> None:
    check_config([{"loss": {"_target_": name}}], sent, [])


def test_what_keras_would_make_of_a_dict_is_a_name_too(sent: Path) -> None:
    made = {"class_name": "function", "config": "system", "module": "os"}
    with pytest.raises(UserError, match=r"os\.function"):
        check_config([{"loss": {"_target_": "keras.layers.Dense", "activation": made}}], sent, [])


def test_a_name_or_its_module_can_be_vouched_for(sent: Path) -> None:
    node = {"loss": {"_target_": "mylib.losses.Mine"}}
    for trusted in ("mylib", "mylib.losses", "mylib.losses.Mine"):
        check_config([node], sent, [trusted])
    with pytest.raises(UserError):
        check_config([node], sent, ["my", "mylib.losses.Other"])


def test_no_module_below_the_run_however_it_is_reached(
    sent: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "run"
    shutil.copytree(sent, elsewhere)
    Path("link").symlink_to(elsewhere)
    Path("linked.py").symlink_to(elsewhere / "evil.py")
    for run_dir, name in ((Path("link"), "link.evil.Mine"), (elsewhere, "linked.Mine")):
        with pytest.raises(UserError, match="the run names"):
            check_config([{"task": {"_target_": name}}], run_dir, [])
    monkeypatch.chdir(sent)
    monkeypatch.syspath_prepend(str(sent))
    for run_dir in (Path(), sent, sent.parent / "b" / ".." / "a"):
        with pytest.raises(UserError, match="the run names"):
            check_config([{"task": {"_target_": "evil.Mine"}}], run_dir, [])


@pytest.mark.parametrize(
    "override",
    [
        "hydra.searchpath=[file:///tmp]",
        "+hydra.callbacks.x=1",
        "hydra/launcher=evil",
        "data@hydra.callbacks=mnist",
        "--experimental-rerun=x.pickle",
        "-m",
        "task.units=${oc.env:HOME}",
        "+task.x='a${own_resolver:b}'",
        "+task.x=[{y:'${oc.decode:x}'}]",
    ],
)
def test_an_override_of_a_run_that_is_no_plain_option_is_refused(override: str) -> None:
    with pytest.raises(UserError, match="the run sets"):
        check_override(override, Path("overrides.yaml"))
    check_override("task.units=${seed}", Path("overrides.yaml"))
    check_override("task.units=${oc.env:N}", Path("overrides.yaml"), ["oc.env"])


def test_a_sent_run_runs_nothing(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=runs/a", "trainer.engine=graph")[0] == 0
    assert run("mode=test", "run_dir=runs/a")[0] == 0
    canary = project / "canary"
    touch = {"_target_": "os.mkdir", "path": str(canary)}
    mlflow, server = {"_target_": "framework.loggers.mlflow.MLflowLogger"}, "http://example.com"
    written = {"_target_": "framework.loggers.csv.CSVLogger", "filename": str(canary)}

    def sent(name: str, change: Callable[[dict[str, Any]], Any], *lines: str) -> Path:
        copy = project / "sent" / name
        shutil.copytree(project / "runs/a", copy)
        config = yaml.safe_load((copy / "config.yaml").read_text())
        change(config)
        (copy / "config.yaml").write_text(yaml.safe_dump(config))
        overrides = yaml.safe_load((copy / "overrides.yaml").read_text())
        (copy / "overrides.yaml").write_text(yaml.safe_dump([*overrides, *lines]))
        return copy

    cases = [
        sent("nested", lambda c: c["task"].update(x=[[touch]])),
        sent("itself", lambda c: c.update(loss=touch, trust=["os"]), "trust=[os]"),
        sent("line", lambda c: None, f"+task.x={{_target_:os.mkdir,path:{canary}}}"),
        sent("through", lambda c: c.update(loss={"_target_": "cliproj.mine.time.sleep"})),
        sent("server", lambda c: c.update(loggers={"mlflow": {**mlflow, "tracking_uri": server}})),
        sent("log", lambda c: c.update(loggers={"csv": written})),
        sent("aliases", lambda c: c.update(task=c["task"] | {"x": (one := [touch]), "y": one})),
    ]
    for path in cases:
        code, _, err = run("mode=test", f"run_dir={path}")
        assert code == 2, (path, err)
        assert len(err.splitlines()) < 10, err
        assert not canary.exists()
    _, _, err = run("mode=test", f"run_dir={cases[0]}", "trust=[os.mkdir]")
    assert canary.exists(), err
