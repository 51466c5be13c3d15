"""The configuration that a command line composes, and how it is shown."""

from __future__ import annotations

import inspect
import re
import time
from pathlib import Path
from typing import Any

import pytest
from cli_project import Run, project, run

__all__ = ["project", "run"]


def test_help_lists_tasks_and_groups(run: Run) -> None:
    code, out, _ = run("--help", plain=True)
    assert code == 0
    lines = out.splitlines()
    assert re.search(r"^  mine +A line through points\.$", out, re.MULTILINE)
    assert re.search(r"^  model +none, small$", out, re.MULTILINE)
    assert re.search(r"^  optimizer +none, adam, adamw", out, re.MULTILINE)
    assert "_base" not in out
    assert len(lines) <= 80
    assert max(map(len, lines)) <= 100


def test_cfg_job_shows_the_whole_configuration(run: Run) -> None:
    from omegaconf import OmegaConf

    code, out, _ = run("--cfg", "job", "task=parts", "data=cifar100", "seed=7", plain=True)
    assert code == 0
    config = OmegaConf.create(out)
    assert config.trainer.max_epochs == 2
    assert config.trainer.seed == 7
    assert config.data.seed == 0  # the stand-in stays the same from seed to seed
    assert config.data.name == "cifar100"
    assert config.optimizer._target_ == "keras.optimizers.SGD"  # the task's file, not its base
    assert list(config.metrics) == ["mae"]
    assert list(config.loggers) == ["csv", "tensorboard"]


def test_a_project_changes_a_choice_of_the_library(run: Run, project: Path) -> None:
    (project / "conf/optimizer").mkdir()
    (project / "conf/optimizer/adam.yaml").write_text("learning_rate: 0.5\n")
    (project / "conf/optimizer/slow.yaml").write_text(
        "_target_: keras.optimizers.SGD\n_partial_: true\nlearning_rate: 1e-5\n"
    )
    code, out, err = run("--cfg", "job", "task=mine", plain=True)
    assert (code, err) == (0, "")
    assert "keras.optimizers.Adam" in out
    assert "learning_rate: 0.5" in out
    assert "beta_1: 0.9" in out
    code, out, _ = run("--cfg", "job", "task=mine", "optimizer=slow", plain=True)
    assert code == 0
    assert "learning_rate: 1.0e-05" in out


def test_the_command_line_wins_over_the_task(run: Run) -> None:
    words = ["task=parts", "optimizer=lion", "metrics=[mse]", "trainer.max_epochs=9"]
    _, out, _ = run("--cfg", "job", *words, plain=True)
    assert "keras.optimizers.Lion" in out
    assert "keras.metrics.mean_squared_error" in out
    assert "mean_absolute_error" not in out
    assert "max_epochs: 9" in out


def test_optimizers_and_losses_have_the_defaults_of_keras() -> None:
    import keras
    from omegaconf import OmegaConf

    from framework.cli.groups.loss_choices import LOSSES, METRICS
    from framework.cli.groups.optimizer_choices import OPTIMIZERS

    for choices in (OPTIMIZERS, LOSSES, METRICS):
        for name, node in choices.items():
            options = dict(OmegaConf.structured(node) if node else {})
            if not options:
                assert name == "none"
                continue
            module, _, attribute = options.pop("_target_").rpartition(".")
            assert module in ("keras.optimizers", "keras.losses", "keras.metrics")
            options.pop("_partial_", None)
            wanted = inspect.signature(getattr(getattr(keras, module[6:]), attribute)).parameters
            assert options == {option: wanted[option].default for option in options}, name


def test_schemas_are_the_signatures_of_what_they_build() -> None:
    from hydra.utils import get_object
    from omegaconf import OmegaConf

    from framework.cli.groups.data_choices import DATA, AugmentConfig
    from framework.cli.groups.listener_choices import CALLBACKS, LOGGERS

    nodes = [*CALLBACKS.values(), *LOGGERS.values(), AugmentConfig, DATA["mnist"]]
    for node in nodes:
        options: Any = OmegaConf.to_container(OmegaConf.structured(node))
        target = options.pop("_target_")
        options.pop("_partial_", None)
        wanted = inspect.signature(get_object(target)).parameters
        named = {name for name, each in wanted.items() if each.kind is not each.VAR_KEYWORD}
        assert set(options) == named, target
        for name in set(options) - {"name", "seed", "augment"}:
            default = wanted[name].default
            given = tuple(options[name]) if isinstance(default, tuple) else options[name]
            assert given == default, (target, name)


def test_the_version_is_this_packages(run: Run) -> None:
    from importlib.metadata import version

    code, out, _ = run("--version", plain=True)
    assert (code, out) == (0, f"keras-task-framework {version('keras-task-framework')}\n")


def test_unique_directories(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from framework.cli import run_dir

    monkeypatch.setattr(time, "strftime", lambda format: "20240101-000000")
    tokens = iter(["aaa", "aaa", "aaa", "bbb"])
    monkeypatch.setattr(run_dir.secrets, "token_hex", lambda size: next(tokens))
    first, second = run_dir.make_unique(Path("x/y")), run_dir.make_unique(Path("x/y"))
    assert [str(p) for p in first] == ["x", "x/y", "x/y/20240101-000000-aaa"]
    assert [str(p) for p in second] == ["x/y/20240101-000000-bbb"]


def test_names_of_jobs() -> None:
    from framework.sweep.plan import job_name

    assert job_name(3, []) == "3"
    assert job_name(3, ["task=a", "metrics=[a,b]"]) == "3_task=a_metrics=_a_b"
    assert job_name(3, ["data.dir=/a/b c"]) == "3_data.dir=_a_b_c"
    drawn = ["optimizer.learning_rate=0.00031622776601683794", "seed=1"]
    assert job_name(3, drawn) == "3_optimizer.learning_rate=0.00031623_seed=1"
    long = [job_name(0, [f"x={'a' * 200}{end}"]) for end in "bc"]
    assert max(map(len, long)) < 120
    assert long[0] != long[1]
