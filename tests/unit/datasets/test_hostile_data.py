"""Data files that lie are answered at once, before memory is taken for them."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from framework.datasets.download import Limits, Unavailable
from framework.datasets.npz import KEYS, read_npz
from framework.datasets.published import IMAGE_SETS, load_original
from framework.errors import UserError


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode("latin1")
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def archive(path: Path, x_train: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for key in KEYS:
            stream = io.BytesIO()
            np.save(stream, np.zeros((4, 8, 8), "u1") if key[0] == "x" else np.zeros(4, "i8"))
            file.writestr(f"{key}.npy", x_train if key == "x_train" else stream.getvalue())
    return path


def header(shape: str, descr: str = "'|u1'") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (npy(header("(99999999999, 8, 8)"), b"00"), "its header states 6,400,000,000,064"),
        (npy(header("(-4, 8, 8)"), b"00"), "its header states"),
        (npy(header("(4, 8, 8)"), b"00"), "its header states"),
        (npy("(" * 3000 + ")" * 3000), "cannot be read"),
        (npy(header("[" * 900 + "]" * 900)), "cannot be read"),
        (npy(header("(4, 8, 8)", "'|O'"), b"00"), "Python objects"),
        (npy(header("(100000000, 1, 1)"), bytes(10**8)), "would grow from"),
        (b"hello", "cannot be read"),
    ],
    ids=["huge", "negative", "short", "deep", "deep shape", "objects", "bomb", "no array"],
)
def test_an_array_that_lies_is_refused(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_npz(archive(tmp_path / "set.npz", content))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_what_is_no_file_is_refused_without_waiting(kind: str, tmp_path: Path) -> None:
    path = Path("/dev/zero") if kind == "device" else tmp_path / "set.npz"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    with pytest.raises(UserError, match="it is not a file"):
        read_npz(path)


def test_a_pipe_in_the_cache_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = IMAGE_SETS["mnist"]
    path = tmp_path / "datasets" / images.files[0].places[0]
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(Unavailable):
        load_original(images, Limits(connect=1.0))
