"""`mode=export`, `mode=predict` and `framework.export`: models that need no framework."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers import Net, blobs, make_trainer
from places import ROOT
from tiny_images import image_set

import framework
from framework import Data, UserError
from framework.cli import main
from framework.serving import exports

NEEDS = {"litert": ["ai_edge_litert"], "onnx": ["onnx", "tf2onnx", "onnxruntime"]}
FORMATS = ("keras", "saved_model", "litert", "onnx")
SMALL = {
    "cifar100_subclass": ["data.val_fraction=0.2", "callbacks=[ema]", "callbacks.ema.decay=0.5"],
    "mnist_vae": ["model.filters=[2,3]", "model.latent=4", "task.pictures=8"],
}
NETWORK = ["model.conv_filters=[2,3]", "model.dense_units=4"]


def installed() -> list[str]:
    return [f for f in FORMATS if all(map(framework.core.extras.is_installed, NEEDS.get(f, [])))]


@contextmanager
def inside(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs on tiny image sets, with their predictions on the raw test images, exported."""
    folder = tmp_path_factory.mktemp("runs")
    sets = {"mnist_vae": ((28, 28), 10), "cifar100_subclass": ((32, 32, 3), 100)}
    for task, (shape, classes) in sets.items():
        images = image_set(shape, classes)
        np.savez(folder / f"{task.partition('_')[0]}.npz", **images)
        np.save(folder / f"{task}.npy", images["x_test"])
        quiet = ["trainer.enable_progress_bar=false", "trainer.enable_model_summary=false"]
        words = [*SMALL[task], *(NETWORK if "cifar" in task else []), *quiet, "loggers=[csv]"]
        words += [f"data.dir={folder}", "data.batch_size=30", "trainer.max_epochs=1"]
        with inside(folder):
            config = ["--config-dir", str(ROOT / "conf")]
            assert main([*config, f"task={task}", f"run_dir={task}", *words]) == 0
            assert main([*config, "mode=predict", f"run_dir={task}"]) == 0
            wanted = f"export.format=[{','.join(installed())}]"
            assert main([*config, "mode=export", f"run_dir={task}", wanted]) == 0
    return folder


READ = {
    "keras": """
        import keras
        model = keras.saving.load_model("{run}/export/model.keras")
        found = model.predict(x, verbose=0)
        """,
    "litert": """
        from ai_edge_litert.interpreter import Interpreter
        runner = Interpreter("{run}/export/model.tflite").get_signature_runner()
        found = runner(inputs=x)["predictions"]
        """,
    "onnx": """
        import onnxruntime
        session = onnxruntime.InferenceSession("{run}/export/model.onnx")
        (found,) = session.run(["predictions"], {{"inputs": x}})
        about = session.get_modelmeta().custom_metadata_map["model.json"]
        assert "class_names" in about
        """,
    "saved_model": """
        import tensorflow
        model = tensorflow.saved_model.load("{run}/export/saved_model")
        answer = model.signatures["serving_default"]
        found = answer(inputs=tensorflow.constant(x))["predictions"].numpy()
        """,
}
SCRIPT = """
import sys
sys.modules["framework"] = sys.modules["tasks"] = None  # importing them fails
import numpy as np
for run in {runs}:
    x, answers = np.load(run + ".npy"), np.load(run + "/predictions.npz")["predictions"]
    for x, answers in ((x, answers), (x[:1], answers[:1])):
{body}
        assert found.shape == answers.shape, (found.shape, answers.shape)
        print(np.abs(found - answers).max())
"""


@pytest.mark.parametrize("kinds", [["keras", "saved_model"], ["litert"], ["onnx"]], ids=str)
def test_raw_images_get_the_same_answers_without_the_framework(
    kinds: list[str], runs: Path
) -> None:
    for module in (m for kind in kinds for m in NEEDS.get(kind, [])):
        pytest.importorskip(module, reason=f"needs the extra {kinds[0]}")
    for_each = [READ[kind].replace("{run}", '" + run + "').replace("{{", "{") for kind in kinds]
    lines = [line for text in for_each for line in text.replace("}}", "}").splitlines()]
    body = "\n".join(line for line in lines if line.strip())
    script = SCRIPT.format(runs=list(SMALL), body=body)
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=runs, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    differences = [float(line) for line in done.stdout.split()]
    assert len(differences) == 4
    assert max(differences) < 1e-5


def test_what_a_model_is_stands_beside_it_and_inside(runs: Path) -> None:
    about = json.loads((runs / "cifar100_subclass/export/model.json").read_text())
    assert about["inputs"] == {"inputs": {"type": "uint8", "shape": ["rows", 32, 32, 3]}}
    assert about["outputs"] == {"predictions": {"type": "float32", "shape": ["rows", 100]}}
    assert about["class_names"][0] == "apple"
    assert about["weights"]["average"] == "EMA"
    assert Path(about["weights"]["run"]).name == "cifar100_subclass"
    import zipfile

    with zipfile.ZipFile(runs / "cifar100_subclass/export/model.keras") as archive:
        assert json.loads(archive.read("model.json")) == about


def test_predictions_on_a_file_are_those_on_the_set(runs: Path) -> None:
    task = "cifar100_subclass"
    np.savez(runs / "in.npz", x=np.load(runs / f"{task}.npy"))
    shared = ["--config-dir", str(ROOT / "conf"), "mode=predict", f"run_dir={task}"]
    with inside(runs):
        wanted = np.load(f"{task}/predictions.npz")
        assert main([*shared, "predict.file=in.npz", "predict.to=out.npz"]) == 0
        found = np.load("out.npz")
        np.testing.assert_allclose(found["predictions"], wanted["predictions"], atol=1e-6)
        assert found["class_names"].tolist() == wanted["class_names"].tolist()
        assert main([*shared, "predict.split=val", "predict.to=val.csv"]) == 0
        lines = Path("val.csv").read_text().splitlines()
        assert len(lines) == 1 + 14  # a fifth of 70
        assert lines[0].startswith("row,class,apple,aquarium fish,")


WRONG = {
    "export.format=onxx": ("export", "Did you mean 'onnx'? Choose one of: keras, saved_model, "),
    "export.format=[]": ("export", "no format"),
    "run_dir=nowhere": ("export", "There is no run"),
    "predict.file=nowhere.npz": ("predict", "no such file"),
    "predict.split=tset": ("predict", "Did you mean 'test'?"),
    "predict.to=a.xlsx": ("predict", "End its name with one of: .npz, .csv, .parquet"),
}


@pytest.mark.parametrize("word", WRONG)
def test_a_wrong_word_is_answered_on_one_screen(
    word: str, runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mode, words = WRONG[word]
    before = sorted(runs.rglob("*"))
    with inside(runs):
        given = [f"mode={mode}", "run_dir=cifar100_subclass", word]
        assert main(["--config-dir", str(ROOT / "conf"), *given]) == 2
    error = capfd.readouterr().err
    assert words in error
    assert len(error.splitlines()) < 12
    assert "Traceback" not in error
    assert sorted(runs.rglob("*")) == before


# ---- what cannot be exported


class Strange(keras.layers.Layer):
    """Keras has no operation for this, nor has LiteRT or ONNX."""

    def call(self, x: Any) -> Any:
        return tf.math.igamma(tf.abs(x) + 1.0, tf.constant(0.5))


def strange() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), Strange(name="odd_one"), keras.layers.Dense(3)])


class Fixed(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return keras.ops.reshape(x, (8, 6))


def fixed() -> keras.Model:
    return keras.Sequential([keras.Input((6,)), Fixed(), keras.layers.Dense(3)])


class Unfixed(Net):
    def predict_step(self, batch: Any) -> Any:
        return tf.reshape(self.model(batch[0]), [8, 3])


def trained(folder: Path, task: Callable[[], Net]) -> framework.serving.trained.Trained:
    data = Data(train=blobs(32), batch_size=8)
    make_trainer(run_dir=folder, max_steps=2).fit(task(), data)
    return framework.load(folder, task=task())


def adapted() -> keras.Model:
    normalize = keras.layers.Normalization(mean=[1.0] * 6, variance=[4.0] * 6)
    return keras.Sequential([keras.Input((6,)), normalize, keras.layers.Dense(3)])


def test_what_layers_keep_besides_variables_goes_along(tmp_path: Path) -> None:
    found, x = trained(tmp_path, lambda: Net(adapted)), blobs(9)[0]
    kernel, bias = found.model.get_weights()[-2:]
    np.testing.assert_allclose(found.predict(x), (x - 1) / 2 @ kernel + bias, atol=1e-5)
    differences = framework.export(found, installed(), inputs=x)
    assert max(differences.values()) < 1e-5


@pytest.mark.parametrize("kind", ["litert", "onnx"])
def test_an_operation_that_a_format_lacks_is_named_with_its_layer(
    kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for module in NEEDS[kind]:
        pytest.importorskip(module, reason=f"needs the extra {kind}")
    found = trained(tmp_path, lambda: Net(strange))
    capfd.readouterr()
    with pytest.raises(UserError, match=f"{kind} has no Igamma") as refused:
        framework.export(found, ["saved_model", kind], inputs=blobs(9)[0])
    assert "odd_one" in str(refused.value.where)
    assert capfd.readouterr().err == "", "the converter wrote to the terminal"
    assert list((tmp_path / "export").iterdir()) == [], "all formats or none"


def test_a_keras_file_says_which_class_it_needs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = trained(tmp_path, lambda: Net(strange))
    assert framework.export(found, "keras", inputs=blobs(9)[0])["keras"] < 1e-6
    assert f"import {__name__}.Strange first" in caplog.text
    assert 'custom_objects={"Strange": Strange}' in caplog.text


@pytest.mark.parametrize("task", [Unfixed, lambda: Net(fixed)])
def test_a_model_for_a_fixed_number_of_rows_is_refused(task: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a batch of a fixed size"):
        framework.export(trained(tmp_path, task), "keras", inputs=blobs(8)[0])
    assert not (tmp_path / "export").exists()


def test_python_in_a_step_is_not_exported(tmp_path: Path) -> None:
    class Python(Net):
        def predict_step(self, batch: Any) -> Any:
            made = tf.numpy_function(lambda x: x, [self.model(batch[0])], tf.float32)
            return tf.ensure_shape(made, [None, 3])

    found = trained(tmp_path, Python)
    assert found.predict(blobs(2)[0]).shape == (2, 3)
    for kind in ("saved_model", "keras"):
        with pytest.raises(UserError, match=f"{kind} has no PyFunc"):
            framework.export(found, kind, inputs=blobs(9)[0])


@pytest.mark.parametrize("wrong", [1e-4, float("nan")])
def test_a_file_that_differs_is_not_kept(
    wrong: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = trained(tmp_path, Net)
    framework.export(found, "keras", inputs=blobs(9)[0])
    before = (tmp_path / "export/model.keras").read_bytes()
    plain = exports.FORMATS["keras"]

    def read(path: Path, task: Any) -> Any:
        model = plain.read(path, task)
        return lambda given: {name: array + wrong for name, array in model(given).items()}

    other = exports.Format(plain.file, plain.write, read)
    monkeypatch.setitem(exports.FORMATS, "keras", other)
    with pytest.raises(UserError, match="differs from the task by"):
        framework.export(found, "keras", inputs=blobs(9)[0])
    assert (tmp_path / "export/model.keras").read_bytes() == before
    assert sorted(p.name for p in (tmp_path / "export").iterdir()) == ["model.json", "model.keras"]


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path: Path) -> None:
    found = trained(tmp_path, Net)
    left = tmp_path / "export/.model.keras-999999"
    left.mkdir(parents=True)
    (left / "model.keras").write_bytes(b"half")
    framework.export(found, "keras", inputs=blobs(9)[0])
    assert sorted(p.name for p in (tmp_path / "export").iterdir()) == ["model.json", "model.keras"]


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("onnx", "tf2onnx", "onnxruntime", "ai_edge_litert"):
        monkeypatch.setitem(sys.modules, module, None)
    for kind in ("onnx", "litert"):
        with pytest.raises(UserError, match="is not installed") as refused:
            framework.export("runs/a", kind)
        assert refused.value.fix == f'pip install "keras-task-framework[{kind}]"'
