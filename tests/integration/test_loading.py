"""`framework.load`: the trained task of a run, wherever it is now, without its data."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from cli_project import Run, project, run  # noqa: F401 - fixtures
from helpers import Net, blobs, make_trainer, noisy

import framework
from framework import Callback, Data, Task, UserError
from framework.callbacks import EMA
from framework.checkpoint.store import CheckpointStore


def scaled(batch: Any) -> Any:
    return tf.cast(batch[0], tf.float32) / 10, batch[1]


def raw(rows: int = 64) -> tuple[np.ndarray, np.ndarray]:
    x, y = blobs(rows)
    return (x * 10).astype(np.int16), y


def train(run_dir: Path, task: Task, data: Data | None = None, **options: Any) -> Task:
    data = data or Data(train=raw(), val=raw(), map=scaled, batch_size=16)
    make_trainer(run_dir=run_dir, max_epochs=3, **options).fit(task, data)
    return task


def numpy_answers(task: Task, x: np.ndarray) -> np.ndarray:
    kernel, bias = task.model.get_weights()
    return np.asarray(x / 10 @ kernel + bias)


def test_a_moved_run_predicts_as_its_task_did_and_nothing_is_written(tmp_path: Path) -> None:
    trained = train(tmp_path / "a", Net())
    shutil.move(tmp_path / "a", tmp_path / "elsewhere")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "elsewhere").rglob("*")}
    loaded = framework.load(tmp_path / "elsewhere", task=Net(), checkpoint="last")
    assert isinstance(loaded.model, keras.Model)
    x, _ = raw(700)
    np.testing.assert_allclose(loaded.predict(x), numpy_answers(trained, x), atol=1e-5)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "elsewhere").rglob("*")} == before


def test_the_best_checkpoint_is_taken_unless_another_is_named(tmp_path: Path) -> None:
    from framework.callbacks import Checkpoint

    keep = Checkpoint(keep_last=9, monitor="val/accuracy", mode="min")
    train(tmp_path, Net(), callbacks=[keep])
    store = CheckpointStore(tmp_path / "checkpoints")
    best = store.best()
    assert best is not None
    for which, step in ((None, best["step"]), ("last", 12), (4, 4), ("8", 8)):
        given = {} if which is None else {"checkpoint": which}
        loaded = framework.load(tmp_path, task=Net(), **given)
        saved = list(store.load(store.path(step))["models"]["model"].values())
        np.testing.assert_array_equal(loaded.model.get_weights()[0], saved[0])
        assert loaded.weights["step"] == step
    with pytest.raises(UserError, match="no checkpoint '7'") as refused:
        framework.load(tmp_path, task=Net(), checkpoint=7)
    assert "4, 8, 12" in refused.value.fix


def test_averages_are_taken_on_request(tmp_path: Path) -> None:
    train(tmp_path, Net(), callbacks=[EMA(0.5)])
    store = CheckpointStore(tmp_path / "checkpoints")
    state = store.load(store.find("last"))
    plain = framework.load(tmp_path, task=Net(), checkpoint="last")
    averaged = framework.load(tmp_path, task=Net(), checkpoint="last", average=True)
    weights, copies = state["models"]["model"], state["averages"]["EMA"]["copies"]
    np.testing.assert_array_equal(plain.model.get_weights()[0], next(iter(weights.values())))
    np.testing.assert_array_equal(averaged.model.get_weights()[0], next(iter(copies.values())))
    assert averaged.weights["average"] == "EMA"


class Two(Net):
    """Two networks, built by the first batch, of which predictions use one."""

    def build_model(self) -> Any:
        return {"body": noisy(), "head": keras.Sequential([keras.layers.Dense(2)])}

    def train_step(self, batch: Any) -> tf.Tensor:
        hidden = self.model["body"](batch[0], training=True)
        return tf.reduce_mean(self.model["head"](hidden) ** 2)

    def eval_step(self, batch: Any) -> None:
        self.log("loss", self.model["head"](self.model["body"](batch[0])))

    def predict_step(self, batch: Any) -> Any:
        return {"hidden": self.model["body"](batch[0], training=False)}

    def configure_callbacks(self) -> list[Callback]:
        return [] if self.trainer.stage == "fit" else [Refusing()]


class Refusing(Callback):
    def __init__(self) -> None:
        raise AssertionError("a callback was made")


def test_several_models_of_a_task_come_back_and_no_callback_is_made(tmp_path: Path) -> None:
    before = train(tmp_path, Two())
    loaded = framework.load(tmp_path, task=Two(), checkpoint="last")
    for name in ("body", "head"):
        pairs = zip(before.model[name].variables, loaded.model[name].variables, strict=True)
        assert all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs), name
    x, _ = raw(5)
    assert loaded.predict(x)["hidden"].shape == (5, 3)


class Silent(Two):
    predict_step = Task.predict_step


def test_a_task_with_several_models_has_to_say_which_predicts(tmp_path: Path) -> None:
    train(tmp_path, Silent())
    with pytest.raises(UserError, match="several models, body, head") as refused:
        framework.load(tmp_path, task=Silent()).predict(raw(2)[0])
    assert "predict_step" in refused.value.fix


def test_a_map_that_cannot_be_written_down_is_taken_from_data(tmp_path: Path) -> None:
    def python(batch: Any) -> Any:
        x = tf.numpy_function(lambda x: x.astype("f4") / 10, [batch[0]], tf.float32)
        return tf.ensure_shape(x, [None, 6]), batch[1]

    data = Data(train=raw(), test=raw(), map=python, batch_size=16)
    task, (x, _) = train(tmp_path, Net(), data), raw(5)
    assert framework.load(tmp_path, task=Net()).model.built
    with pytest.raises(UserError, match="PyFunc"):
        framework.load(tmp_path, task=Net()).predict(x)
    for path in (None, tmp_path / "inputs.json"):  # and a run of before there was such a file
        if path:
            path.unlink()
        found = framework.load(tmp_path, task=Net(), data=data, checkpoint="last").predict(x)
        np.testing.assert_allclose(found, numpy_answers(task, x), atol=1e-5)


# ---- runs of the command line


@pytest.fixture
def trained(run: Run) -> Path:  # noqa: F811
    assert run("task=mine", "run_dir=r", "trainer.max_epochs=1")[0] == 0
    return Path("r")


X = np.random.default_rng(1).normal(size=(9, 3)).astype("float32")


def test_a_run_of_the_command_line_needs_no_task_no_conf_and_no_data(trained: Path) -> None:
    module = Path("cliproj/mine.py")
    module.write_text(module.read_text().replace("def build_data(self):", "def unused(self):"))
    shutil.rmtree("conf")
    loaded = framework.load(trained)
    kernel, bias = loaded.model.get_weights()
    np.testing.assert_allclose(loaded.predict(X), X @ kernel + bias, atol=1e-6)
    assert type(loaded.task).__name__ == "Mine"


def test_a_class_that_moved_is_asked_for_and_found(trained: Path) -> None:
    Path("cliproj/mine.py").rename("cliproj/moved.py")
    for name in [n for n in sys.modules if n.startswith("cliproj")]:
        del sys.modules[name]
    with pytest.raises(UserError, match=r"cliproj.mine.Mine, and there is no such module") as asked:
        framework.load(trained)
    assert "task='module.Class'" in asked.value.fix
    assert framework.load(trained, task="cliproj.moved.Mine").predict(X).shape == (9, 1)
    import importlib

    kind = importlib.import_module("cliproj.moved").Mine
    assert framework.load(trained, task=kind).predict(X).shape == (9, 1)


def changed(old: str, new: str) -> Callable[[Path], Any]:
    def change(run_dir: Path) -> None:
        path = run_dir / "config.yaml"
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))

    return change


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no run": (shutil.rmtree, "There is no run"),
    "no checkpoint": (lambda r: shutil.rmtree(r / "checkpoints"), "has no checkpoint"),
    "made in Python": (lambda r: (r / "config.yaml").unlink(), "started from Python"),
    "unreadable": (lambda r: (r / "config.yaml").write_text("{"), "cannot be read"),
    "something else": (changed("cliproj.mine.Mine", "shutil.rmtree"), "the run names"),
    "a reference": (changed("units: 1", "units: ${oc.env:HOME}"), "not resolved"),
    "another network": (changed("units: 1", "units: 2"), "has shape"),
    "inputs": (lambda r: (r / "inputs.json").write_text("{}"), "cannot be read"),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_run_that_cannot_be_loaded_is_refused(what: str, trained: Path) -> None:
    damage, words = DAMAGES[what]
    damage(trained)
    with pytest.raises(UserError, match=words):
        framework.load(trained)


def test_a_loaded_task_does_not_disturb_a_run_in_the_same_process(tmp_path: Path) -> None:
    def weights(*, loading: bool) -> np.ndarray:
        class Loading(Net):
            def on_setup(self) -> None:
                if loading:
                    framework.load(tmp_path, task=Net(noisy)).predict(raw(3)[0])

        task = Loading(noisy)
        make_trainer(max_epochs=2, seed=3).fit(task, Data(train=blobs(32), batch_size=8))
        found: np.ndarray = task.model.get_weights()[0]
        return found

    train(tmp_path, Net(noisy))
    np.testing.assert_array_equal(weights(loading=True), weights(loading=False))
