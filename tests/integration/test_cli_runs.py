"""The command line: composing, running, continuing, evaluating, sweeping."""

from __future__ import annotations

import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_project import Run, files, project, run

__all__ = ["project", "run"]

ROOT = Path(__file__).parents[1]


def start(*words: str, folder: Path, **options: Any) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **options}
    command = [sys.executable, "-m", "framework", *words]
    return subprocess.Popen(
        command, cwd=folder, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return found


def only_run(folder: Path) -> Path:
    (path,) = (folder / "runs").glob("*/*")
    return path


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job", "task=mine"]])
def test_showing_is_quick_and_needs_no_tensorflow(project: Path, words: list[str]) -> None:
    code = (
        "import sys, time; began = time.process_time(); from framework.cli import main;"
        f"code = main({words!r}); print('seconds', time.process_time() - began);"
        "print('heavy', sorted({'tensorflow', 'keras', 'numpy'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "heavy []" in done.stdout
    assert float(re.search(r"seconds (.*)", done.stdout)[1]) < 1.5  # type: ignore[index]


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
        assert set(options) == set(wanted), target
        for name in set(options) - {"name", "seed", "augment"}:
            assert options[name] == wanted[name].default, (target, name)


def test_a_run_leaves_its_directory_and_nothing_else(run: Run, project: Path) -> None:
    before = files(project)
    code, out, err = run("task=mine", "trainer.max_epochs=2", "optimizer.learning_rate=0.01")
    assert code == 0, err
    path = only_run(project)
    assert re.fullmatch(r"\d{8}-\d{6}-[0-9a-f]{6}", path.name)
    assert path.parent.name == "mine"
    assert all(name.startswith("runs") for name in files(project) - before)
    there = {p.name for p in path.iterdir()}
    assert there >= {
        *("config.yaml", "overrides.yaml", "result.json", "metrics.csv", "log.txt"),
        *("checkpoints", "tensorboard"),
    }
    found = result(path)
    assert found["status"] == "completed"
    assert found["task"] == "mine"
    assert found["global_step"] == 20
    assert found["overrides"][:2] == ["task=mine", "trainer.max_epochs=2"]
    assert "learning_rate: 0.01" in (path / "config.yaml").read_text()
    assert f"test/loss {found['metrics']['test/loss']:.4f}" in out
    assert f"Run directory: runs/mine/{path.name}" in out
    assert "tensorboard --logdir runs" in out


def test_what_a_run_computes(run: Run, project: Path) -> None:
    # Gradient descent on the same batches, in NumPy: no shuffling, so the order is known.
    words = ["optimizer=sgd", "optimizer.learning_rate=0.05", "trainer.limit_train_batches=4"]
    code, _, err = run("task=parts", "run_dir=a", "model=small", *words, "trainer.max_epochs=1")
    assert code == 0, err
    code, _, err = run("task=parts", "run_dir=a", "mode=predict", *words)
    assert code == 0, err
    with np.load("a/predictions.npz") as arrays:
        assert list(arrays) == ["predictions"]
        predictions = arrays["predictions"]
    x = np.random.default_rng(0).normal(size=(100, 3)).astype("float32")
    y = x.sum(1, keepdims=True)
    assert predictions.shape == (40, 1)
    loss = float(np.mean((predictions - y[20:60]) ** 2))
    assert result(project / "a")["metrics"]["test/loss"] == pytest.approx(loss, rel=1e-5)


def test_parts_reach_the_task(run: Run) -> None:
    import keras

    code, _, err = run("task=parts", "optimizer.momentum=0.5", "trainer.fast_dev_run=true")
    assert code == 0, err
    seen = sys.modules["cliproj.mine"].Parts.seen
    assert set(seen) == {"model", "optimizer", "loss", "metrics"}
    assert seen["model"].units == 4
    assert seen["model"].head.dropout == 0.5
    assert isinstance(seen["loss"], keras.losses.MeanSquaredError)
    assert list(seen["metrics"]) == ["mae"]
    value = seen["metrics"]["mae"](np.zeros((2, 3)), np.full((2, 3), 0.25))
    assert np.allclose(value, [0.25, 0.25])
    optimizer = seen["optimizer"]()
    assert isinstance(optimizer, keras.optimizers.SGD)
    assert optimizer.momentum == 0.5


def test_a_fast_dev_run_leaves_nothing(run: Run, project: Path) -> None:
    before = files(project)
    code, _, err = run("task=mine", "trainer.fast_dev_run=true")
    assert code == 0, err
    assert files(project) == before


def test_a_run_is_continued_and_evaluated(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    code, _, err = run("task=mine", "run_dir=a", "trainer.max_epochs=3")
    assert code == 0, err
    assert result(project / "a")["global_step"] == 30
    straight = run("task=mine", "run_dir=b", "trainer.max_epochs=3")
    assert straight[0] == 0
    metrics = result(project / "b")["metrics"]
    assert result(project / "a")["metrics"] == metrics

    config = (project / "a/config.yaml").read_text()
    code, out, err = run("task=mine", "run_dir=a", "mode=test", "trainer.max_epochs=7")
    assert code == 0, err
    assert f"test/loss {metrics['test/loss']:.4f}" in out
    code, out, err = run("task=mine", "run_dir=a", "mode=validate", "checkpoint=last")
    assert code == 0, err
    assert f"val/loss {metrics['val/loss']:.4f}" in out
    assert (project / "a/config.yaml").read_text() == config


def test_an_evaluation_takes_what_the_run_was_begun_with(run: Run, project: Path) -> None:
    given = ("task=parts", "seed=3", "trainer.precision=mixed_bfloat16", "model.units=1")
    assert run(*given, "run_dir=a", "data=none", "trainer.max_epochs=1")[0] == 0
    before = result(project / "a")
    code, out, err = run("run_dir=a", "mode=test")  # nothing needs to be said again
    assert code == 0, err
    after = result(project / "a")
    assert after["metrics"] == before["metrics"]
    assert f"test/loss {before['metrics']['test/loss']:.4f}" in out
    # What an evaluation does not change: all but its metrics, and whose weights it judged.
    changed = {"metrics", "weights"}
    assert {k: v for k, v in after.items() if k not in changed} == {
        k: v for k, v in before.items() if k not in changed
    }
    assert after["weights"]["test"]["step"] == before["weights"]["test"]["step"]
    assert (after["seed"], after["precision"]) == (3, "mixed_bfloat16")
    assert after["best"] is not None
    assert after["examples_per_second"] > 0

    # What is given explicitly holds, and a configuration that was changed meanwhile does not.
    (project / "conf/model/small.yaml").write_text("units: 1\nhead: {dropout: 0.9}\n")
    code, _, err = run("run_dir=a", "mode=validate", "seed=5", "trainer.precision=float32")
    assert code == 0, err
    assert "validating on other rows than the run did: trainer.seed is 5, was 3" in err
    assert sys.modules["cliproj.mine"].Parts.seen["model"].head.dropout == 0.5
    code, _, err = run("run_dir=a", "mode=validate")
    assert code == 0, err
    assert "other rows" not in err
    assert result(project / "a")["metrics"] == pytest.approx(before["metrics"], rel=1e-6)
    code, _, err = run("run_dir=a", "mode=test", "task=mine")
    assert code == 2
    assert "cliproj.mine.Parts" in err
    assert "cliproj.mine.Mine" in err


def test_a_finished_run_keeps_its_speed(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    before = result(project / "a")
    assert before["examples_per_second"] > 0
    assert run("task=mine", "run_dir=a")[0] == 0
    assert result(project / "a") == before | {"overrides": result(project / "a")["overrides"]}


def test_a_fast_evaluation_finds_the_weights_and_writes_nothing(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    before = {p: p.read_bytes() for p in (project / "a").rglob("*") if p.is_file()}
    there = files(project)
    code, out, err = run("run_dir=a", "mode=test", "trainer.fast_dev_run=4", "checkpoint=best")
    assert code == 0, err
    loss = result(project / "a")["metrics"]["test/loss"]  # of all 4 batches
    assert f"test/loss {loss:.4f}" in out
    code, _, err = run("task=mine", "mode=test", "trainer.fast_dev_run=true")
    assert code == 0, err
    assert files(project) == there
    assert {p: p.read_bytes() for p in before} == before


def test_a_run_can_be_named_as_a_checkpoint(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    loss = result(project / "a")["metrics"]["test/loss"]
    code, out, err = run("task=mine", "mode=test", "checkpoint=a")
    assert code == 0, err
    assert f"test/loss {loss:.4f}" in out
    assert "tensorboard" in out
    code, out, err = run("run_dir=a", "mode=predict", "loggers=[]")
    assert code == 0, err
    assert "tensorboard" not in out
    code, _, err = run("run_dir=a", "mode=test", "checkpoint=77")
    assert code == 2
    assert "Steps there: 10" in err


def test_fewer_rows_do_not_continue_a_run(run: Run, project: Path) -> None:
    # The task's own argument is of the configuration; the file that it reads is not.
    (project / "cliproj/filed.py").write_text(
        "from pathlib import Path\nfrom cliproj.mine import Mine\n\n\nclass Filed(Mine):\n"
        "    def build_data(self):\n        self.rows = int(Path('rows').read_text())\n"
        "        return super().build_data()\n"
    )
    (project / "conf/task/filed.yaml").write_text("_target_: cliproj.filed.Filed\n")
    (project / "rows").write_text("100")
    assert run("task=filed", "run_dir=a", "trainer.max_steps=7")[0] == 0
    before = result(project / "a")
    (project / "rows").write_text("60")
    code, _, err = run("task=filed", "run_dir=a", "trainer.max_steps=20")
    assert code == 2
    assert "begun with 100 training rows, now there are 60" in err
    assert result(project / "a") == before


def test_the_log_holds_what_the_terminal_showed(run: Run, project: Path) -> None:
    code, _, err = run("task=mine", "run_dir=a", "trainer.max_epochs=2")
    assert code == 0, err
    log = (project / "a/log.txt").read_text()
    metrics = result(project / "a")["metrics"]
    assert "4 parameters" in log
    assert "epoch 1, step 10:  train/loss" in log
    assert f"epoch 2, step 20:  train/loss {metrics['train/loss']:.4f}" in log
    assert f"test:  test/loss {metrics['test/loss']:.4f}" in log


def test_half_floats_are_predicted_as_float32(tmp_path: Path) -> None:
    import ml_dtypes

    from framework.cli.predictions import save_predictions

    given = {
        "a": np.array([1.5, 2.0], ml_dtypes.bfloat16),
        "b": np.array([1, 2]),
        "c": np.array([b"x", b"yz"], object),
    }
    save_predictions(tmp_path / "p.npz", given)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as found:
        assert {n: found[n].dtype.str for n in found} == {"a": "<f4", "b": "<i8", "c": "|S2"}
        assert found["a"].tolist() == [1.5, 2.0]


def test_the_version_is_this_packages(run: Run) -> None:
    from importlib.metadata import version

    code, out, _ = run("--version", plain=True)
    assert (code, out) == (0, f"keras-task-framework {version('keras-task-framework')}\n")


def test_another_configuration_does_not_continue_a_run(run: Run, project: Path) -> None:
    assert run("task=mine", "run_dir=a")[0] == 0
    before = {p: p.read_bytes() for p in (project / "a").rglob("*") if p.is_file()}
    code, _, err = run("task=mine", "run_dir=a", "seed=5", "optimizer.learning_rate=0.5")
    assert code == 2
    assert re.search(r"^ +seed +0 +5$", err, re.MULTILINE)
    assert re.search(r"^ +optimizer.learning_rate +0.001 +0.5$", err, re.MULTILINE)
    assert "max_epochs" not in err
    assert "trainer.seed" not in err  # it follows seed, which has a row already
    code, _, err = run("task=mine", "run_dir=a", "mode=test", "task.units=2")
    assert code == 2
    assert re.search(r"^ +task.units +1 +2$", err, re.MULTILINE)
    # Refused only later, by the task's code.
    code, _, _ = run("task=mine", "run_dir=a", "trainer.max_epochs=2", "trainer.device=gpu:9")
    assert code == 2
    after = {p: p.read_bytes() for p in (project / "a").rglob("*") if p.is_file()}
    changed = {p.name for p in after if before.get(p) != after[p]}
    assert changed <= {"log.txt", "result.json"}
    assert set(after) == set(before)


def test_a_failure_keeps_the_run_and_its_traceback(run: Run, project: Path) -> None:
    code, out, err = run("task=mine", "+task.fail=epoch")
    assert code == 1
    assert "error: RuntimeError: boom in a hook" in err
    assert "Traceback" not in out + err
    path = only_run(project)
    assert result(path)["status"] == "failed"
    log = (path / "log.txt").read_text()
    assert "Traceback" in log
    assert 'raise RuntimeError("boom in a hook")' in log


def test_a_directory_in_use_is_refused(run: Run, project: Path) -> None:
    from framework.cli.run_dir import RunDir

    assert run("task=mine", "run_dir=a")[0] == 0
    before = files(project)
    from omegaconf import OmegaConf

    config: Any = OmegaConf.to_container(OmegaConf.load("a/config.yaml"))
    held = RunDir(Path("a"), config, [])
    code, _, err = run("task=mine", "run_dir=a")
    held.close(keep=True)
    assert code == 2
    assert "Another run is writing" in err
    assert files(project) == before
    assert run("task=mine", "run_dir=a")[0] == 0


def test_unique_directories(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from framework.cli import run_dir

    monkeypatch.setattr(time, "strftime", lambda format: "20240101-000000")
    tokens = iter(["aaa", "aaa", "aaa", "bbb"])
    monkeypatch.setattr(run_dir.secrets, "token_hex", lambda size: next(tokens))
    first, second = run_dir.make_unique(Path("x/y")), run_dir.make_unique(Path("x/y"))
    assert [str(p) for p in first] == ["x", "x/y", "x/y/20240101-000000-aaa"]
    assert [str(p) for p in second] == ["x/y/20240101-000000-bbb"]


def test_a_sweep(run: Run, project: Path) -> None:
    words = ["-m", "task=mine", "seed=1,2", "task.units=1,-1", "sweep_dir=s"]
    code, out, err = run(*words)
    assert code == 2
    assert err.count("error:") == 2
    jobs = {p.name for p in (project / "s").iterdir()}
    assert jobs == {"0_seed=1_task.units=1", "2_seed=2_task.units=1", "multirun.yaml"}
    for number, seed in ((0, 1), (2, 2)):
        found = result(project / f"s/{number}_seed={seed}_task.units=1")
        assert (found["status"], found["seed"]) == ("completed", seed)
        loss = f"{found['metrics']['test/loss']:.4f}"
        assert re.search(rf"^ {number} .*completed +{loss}", out, re.MULTILINE)
    assert len(re.findall(r"refused \(2\)", out)) == 2
    assert files(project).isdisjoint({"multirun", "outputs", "runs"})

    code, out, err = run("-m", "task=mine", "seed=1,2", "task.units=1", "sweep_dir=t")
    assert code == 0, err
    code, out, err = run(
        "-m", "task=mine", "seed=1,2", "task.units=1", "sweep_dir=t", "trainer.max_epochs=2"
    )
    assert code == 0, err
    assert {p.name for p in (project / "t").iterdir()} == {"0_seed=1", "1_seed=2", "multirun.yaml"}
    assert result(project / "t/1_seed=2")["global_step"] == 20


def test_jobs_of_a_sweep_give_what_single_runs_give(run: Run, project: Path) -> None:
    precisions = "trainer.precision=mixed_bfloat16,float32"
    assert run("-m", "task=mine", precisions, "sweep_dir=s")[0] == 0
    assert run("task=mine", "run_dir=a")[0] == 0
    second = result(project / "s/1_trainer.precision=float32")
    assert second["metrics"] == result(project / "a")["metrics"]


def test_a_sweep_that_is_interrupted_shows_what_was_not_run(
    run: Run, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from framework.cli import one_run as runs

    outcomes = iter([runs.Outcome(0), runs.Outcome(130, "interrupted")])
    monkeypatch.setattr(runs, "run", lambda job: next(outcomes))
    code, out, _ = run("-m", "task=mine", "seed=1,2,3", "optimizer=adam,sgd", "sweep_dir=s")
    assert code == 130
    rows = [line.split()[:4] for line in out.splitlines() if re.match(r" \d ", line)]
    assert rows == [
        ["0", "seed=1", "optimizer=adam", "completed"],
        ["1", "seed=1", "optimizer=sgd", "interrupted"],
        ["2", "seed=2", "optimizer=adam", "not"],
        ["3", "seed=2", "optimizer=sgd", "not"],
        ["4", "seed=3", "optimizer=adam", "not"],
        ["5", "seed=3", "optimizer=sgd", "not"],
    ]


def test_a_sweep_without_a_directory_gets_one_of_its_own(run: Run, project: Path) -> None:
    for _ in range(2):
        code, out, err = run("-m", "task=mine", "seed=1,2", "trainer.fast_dev_run=true")
        assert code == 0, err
        assert not (project / "runs").exists()  # A fast run writes nothing, its sweep neither.
    code, out, err = run("-m", "task=mine", "seed=1,2")
    assert code == 0, err
    (sweep,) = (project / "runs").iterdir()
    assert re.fullmatch(r"sweep-\d{8}-\d{6}-[0-9a-f]{6}", sweep.name)
    assert f"Sweep directory: runs/{sweep.name}" in out


def test_names_of_jobs() -> None:
    from framework.cli.sweep import job_name

    assert job_name(3, []) == "3"
    assert job_name(3, ["task=a", "metrics=[a,b]"]) == "3_task=a_metrics=_a_b"
    assert job_name(3, ["data.dir=/a/b c"]) == "3_data.dir=_a_b_c"
    long = [job_name(0, [f"x={'a' * 200}{end}"]) for end in "bc"]
    assert max(map(len, long)) < 120
    assert long[0] != long[1]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_interrupted_run_can_be_continued(project: Path, sent: int, code: int) -> None:
    words = ["task=mine", "+task.fail=slow", "trainer.max_epochs=10000", "run_dir=a"]
    process = start(*words, folder=project)
    try:
        metrics = project / "a/metrics.csv"
        until = time.monotonic() + 300
        while time.monotonic() < until and not (
            metrics.exists() and len(metrics.read_text().splitlines()) > 2
        ):
            time.sleep(0.1)
        process.send_signal(sent)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == code, err
    assert "Traceback" not in out + err
    assert "Run directory: a" in out
    found = result(project / "a")
    assert found["status"] == "interrupted"
    step = found["global_step"]
    assert (project / f"a/checkpoints/step-{step:08d}").is_dir()


def test_shell_completion(project: Path) -> None:
    script = project / "bin/keras-task"
    script.parent.mkdir()
    script.write_text(
        f"#!{sys.executable}\nimport sys\nfrom framework.cli import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}

    def complete(line: str) -> list[str]:
        more = {"COMP_LINE": line, "COMP_POINT": str(len(line))}
        command = [str(script), "-sc", "query=bash"]
        return subprocess.run(
            command, env={**env, **more}, text=True, capture_output=True, check=True
        ).stdout.split()

    assert "task=mine" in complete("keras-task task=mi")
    assert "optimizer=adam" in complete("keras-task optimizer=ad")
    assert "trainer.max_epochs=" in complete("keras-task task=mine trainer.max_e")
    command = [str(script), "--shell-completion", "install=bash"]
    install = subprocess.run(command, env=env, text=True, capture_output=True, check=True).stdout
    assert install.rstrip().endswith("hydra_bash_completion keras-task")
    assert subprocess.run(["bash", "-n", "-c", install], check=False).returncode == 0
    # The console script finds the project's modules too.
    done = subprocess.run(
        [str(script), "task=mine", "+task.fail=init"], env=env, text=True, capture_output=True
    )
    assert "no such units" in done.stderr
