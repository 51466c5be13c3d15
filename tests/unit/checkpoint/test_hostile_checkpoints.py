"""Checkpoints that lie, and links where a run's files should be."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from store_damage import manifest, resigned

from framework.checkpoint import safe_arrays as reading
from framework.checkpoint.store import CheckpointStore
from framework.cli.run_dir import RunDir
from framework.core.lock import RunLock
from framework.errors import UserError
from framework.loggers.csv import CSVLogger
from framework.loggers.tensorboard import TensorBoardLogger


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    found = CheckpointStore(tmp_path / "checkpoints")
    for step in (1, 2):
        found.save(step, {"weights": np.arange(6.0).reshape(2, 3), "epoch": step})
    return found


def npz(header: bytes, content: bytes = b"\0" * 48, compressed: bool = False) -> bytes:
    """A file with one array, whose header says what it likes."""
    out = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED
    text = header.ljust(117) + b"\n"
    with zipfile.ZipFile(out, "w", kind) as file:
        file.writestr("00000.npy", b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + content)
    return out.getvalue()


def header(shape: str, descr: str = "'<f8'") -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()


def arrays(content: bytes) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / "arrays.npz").write_bytes(content)
        resigned(path)

    return change


def tree(text: str) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / "state.json").write_text(text)
        resigned(path)

    return change


def instead(name: str, make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        (path / name).unlink()
        make(path / name)

    return change


LIES: dict[str, Callable[[Path], None]] = {
    "a manifest without files": manifest(files={}),
    "a manifest with other files": manifest(files={"../../x": "0"}),
    "a manifest of text": lambda path: (path / "manifest.json").write_text("[]") and None,
    "a deep manifest": lambda p: (p / "manifest.json").write_text("[" * 100_000) and None,
    "a judgement that is none": manifest(judged=[1]),
    "a judgement without a number": manifest(judged={"metric": "a", "value": "x", "mode": "min"}),
    "a step that is text": manifest(step="2"),
    "a format that is text": manifest(format="x"),
    "a device": instead("arrays.npz", lambda p: p.symlink_to("/dev/zero")),
    "a pipe": instead("state.json", os.mkfifo),
    "a pipe as manifest": instead("manifest.json", os.mkfifo),
    "a link": instead("state.json", lambda p: p.symlink_to("/etc/hostname")),
    "a directory": instead("arrays.npz", Path.mkdir),
    "deep JSON": tree("[" * 200_000 + "]" * 200_000),
    "deep JSON of dicts": tree('{"a":' * 20_000 + "1" + "}" * 20_000),
    "JSON that is a list": tree("[1]"),
    "an array that is missing": tree('{"weights": {"$array": "77777", "dtype": "float64"}}'),
    "an array without a type": tree('{"weights": {"$array": "00000"}}'),
    "an array of another type": tree('{"weights": {"$array": "00000", "dtype": "int8"}}'),
    "an array of a strange type": tree('{"weights": {"$array": "00000", "dtype": "finfo"}}'),
    "a name that is a list": tree('{"weights": {"$array": [], "dtype": "float64"}}'),
    "no zip": arrays(b"not a zip"),
    "an empty zip": arrays(b"PK\5\6" + b"\0" * 18),
    "a huge shape": arrays(npz(header("(1000000000000,)"))),
    "a huge shape of nothing": arrays(npz(header("(2, 1000000000000000000, 0)"), b"x")),
    "a negative shape": arrays(npz(header("(-2, -3)"))),
    "a shape that is no number": arrays(npz(header("('a',)"))),
    "pickled objects": arrays(npz(header("(6,)", "'|O'"))),
    "a record": arrays(npz(header("(6,)", "[('a', '<f8')]"))),
    "a header of code": arrays(npz(b"__import__('os').system('touch canary')")),
    "a deep header": arrays(npz(b"(" * 100 + b")" * 100)),
    "a bomb": arrays(npz(header("(25000000,)"), bytes(200_000_000), compressed=True)),
}


@pytest.mark.parametrize("what", LIES)
def test_a_checkpoint_that_lies_is_refused_and_the_one_before_taken(
    store: CheckpointStore, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    LIES[what](store.path(2))
    with pytest.raises(UserError) as caught:
        store.load(store.path(2))
    assert len(str(caught.value)) < 1000
    newest = store.load_newest()
    assert newest is not None
    assert newest[0] == store.path(1)
    assert newest[1]["epoch"] == 1
    assert "is damaged" in caplog.text


def test_shapes_are_looked_at_before_any_value_is_read(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fits(state: Any) -> None:
        assert state["weights"].strides == (0, 0)  # one element stands for all
        if state["weights"].shape != (3, 3):
            raise UserError("another shape", fix="Use that model.")

    def read(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(reading, "_fill", read)
    for load in (lambda: store.load(store.path(2), fits), lambda: store.load_newest(fits)):
        with pytest.raises(UserError, match="another shape"):
            load()


def test_what_is_stored_comes_back_whatever_its_order(store: CheckpointStore) -> None:
    state = {
        "fortran": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "empty": np.zeros((0, 3)),
        "scalar": np.float32(2.5),
        "text": np.array(["a", "bcd"]),
        "bytes": np.array([b"a", b"bcd"]),
        "bool": np.array([True, False]),
        "complex": np.array([1 + 2j]),
    }
    found = store.load(store.save(3, state))
    for name, value in state.items():
        assert found[name].dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value)


def test_what_a_deletion_has_left_is_deleted_at_the_next_start(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed(path: Path, **options: Any) -> None:
        (path / "state.json").unlink()
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("framework.checkpoint.store.shutil.rmtree", killed)
        with pytest.raises(Killed):
            store.take_back(1)
    assert store.steps() == [1]
    assert len(list(store.directory.iterdir())) == 2
    store.recover()
    assert [path.name for path in store.directory.iterdir()] == ["step-00000001"]


# ---- links


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    path = tmp_path / "precious"
    path.write_text("mine")
    return path


def _locked(run_dir: Path) -> None:
    with RunLock(run_dir):
        pass


def _saved(run_dir: Path) -> None:
    CheckpointStore(run_dir / "checkpoints").save(1, {"epoch": 1})


def _opened(run_dir: Path) -> None:
    RunDir(run_dir, {"trainer": {}}, []).close(keep=True)


def _logged(logger: Any) -> Callable[[Path], None]:
    def log(run_dir: Path) -> None:
        logger.open(run_dir, None)
        logger.log_metrics({"train/loss": 1.0}, 1, 1)
        logger.close()

    return log


WRITERS: dict[str, Callable[[Path], None]] = {
    ".lock": _locked,
    "log.txt": _opened,
    "metrics.csv": _logged(CSVLogger()),
    "train/events.out.tfevents.1.a": _logged(TensorBoardLogger()),
}


@pytest.mark.parametrize("how", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("name", WRITERS)
def test_no_file_of_a_run_is_opened_through_a_link(
    tmp_path: Path, precious: Path, name: str, how: Callable[[Path, Path], None]
) -> None:
    run_dir = tmp_path / "run"
    (run_dir / name).parent.mkdir(parents=True)
    how(run_dir / name, precious)
    said = "symbolic link" if how is Path.symlink_to else "another name"
    # Logs are replaced rather than written, which harms no other name of theirs.
    fine = how is Path.hardlink_to and name not in (".lock", "log.txt")
    with nullcontext() if fine else pytest.raises((UserError, OSError), match=said):
        WRITERS[name](run_dir)
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("name", ["checkpoints", "train"])
def test_nor_is_a_directory_of_it(tmp_path: Path, name: str) -> None:
    run_dir, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run_dir.mkdir()
    elsewhere.mkdir()
    (run_dir / name).symlink_to(elsewhere)
    (run_dir / "result.json").touch()
    with pytest.raises(UserError, match="symbolic link"):
        RunDir(run_dir, {"trainer": {}}, [])
    write = _saved if name == "checkpoints" else WRITERS["train/events.out.tfevents.1.a"]
    with pytest.raises((UserError, OSError), match="symbolic link"):
        write(run_dir)
    assert list(elsewhere.iterdir()) == []
