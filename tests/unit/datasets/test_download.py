"""Downloads go whole into the cache, or end soon and leave nothing."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_server import (
    CONTENT,
    SHA,
    Answer,
    Server,
    arrays,
    cache,
    files,
    offline,
    sending,
    server,
    stalling,
)

from framework.datasets import download
from framework.datasets import published as originals
from framework.datasets.download import Limits, Remote, Unavailable
from framework.datasets.named import load_dataset
from framework.datasets.published import IMAGE_SETS, ImageSet, load_original
from framework.errors import UserError

__all__ = ["cache", "offline", "server"]

SHORT = Limits(connect=0.5, stall=0.5, total=1.5)
# Where an answer comes: the machine may be busy. And one for each way in which none comes.
LONG = Limits(connect=120.0, stall=120.0, total=600.0)
STALL = replace(LONG, stall=0.5)
TOTAL = replace(LONG, total=1.5)
PATIENCE = 300.0


def trickling_body(handler: BaseHTTPRequestHandler) -> None:
    sending(b"", len(CONTENT))(handler)
    for byte in CONTENT:
        handler.wfile.write(bytes([byte]))
        time.sleep(0.1)


def trickling_header(handler: BaseHTTPRequestHandler) -> None:
    for _ in range(200):
        handler.wfile.write(b"H")
        time.sleep(0.1)


def silent(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(120)


def tiny(url: str, *places: str) -> ImageSet:
    """A set of 6 and 4 images of 5 x 5 pixels in 3 classes."""
    remote = Remote(url, SHA, len(CONTENT), places or ("mnist.npz",))
    return ImageSet((5, 5), (6, 4), 3, (remote,), originals._read_npz)


def use(monkeypatch: pytest.MonkeyPatch, images: ImageSet, limits: Limits = LONG) -> None:
    """Let `mnist` be another set, had within other limits."""
    monkeypatch.setitem(IMAGE_SETS, "mnist", images)
    monkeypatch.setattr(download, "Limits", lambda: limits)


def test_a_download_goes_whole_into_the_cache_and_is_used_from_there(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    use(monkeypatch, tiny(server.url))
    server.answer = sending(CONTENT)
    for source in ("real", "auto"):
        found = load_dataset("mnist", source=source)
        assert (found.source, found.num_classes) == ("keras", 3)
        for key, array in arrays().items():
            assert np.array_equal(getattr(found, key), array)
        assert server.requests == 1  # the second time it is in the cache
    assert files(cache) == ["datasets", "datasets/mnist.npz"]
    assert (cache / "datasets/mnist.npz").read_bytes() == CONTENT
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_cached_file_needs_no_network(cache: Path, offline: None) -> None:
    (cache / "datasets").mkdir(parents=True)
    (cache / "datasets/older.npz").write_bytes(CONTENT)
    x_train, *_ = load_original(tiny("http://nowhere.invalid/a", "newer.npz", "older.npz"))
    assert np.array_equal(x_train, arrays()["x_train"])


FAILURES: dict[str, tuple[Answer, str]] = {
    "not found": (lambda handler: handler.send_error(404), "404"),
    "broken off": (sending(CONTENT[:-9], len(CONTENT)), "broke off"),
    "other content": (sending(CONTENT[:-1] + b"!"), "checksum"),
    "too much": (sending(CONTENT + b"!"), "checksum"),
    "no http": (lambda handler: handler.wfile.write(b"\x00\xff" * 99), "failed"),
    "silent": (silent, "timed out"),
    "stalling": (stalling, "timed out"),
    "trickling header": (trickling_header, "no answer within"),
    "trickling body": (trickling_body, "no answer within"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_download_ends_soon_and_leaves_nothing(
    name: str,
    cache: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.answer, reason = FAILURES[name]
    limits = {"timed out": STALL, "no answer within": TOTAL}.get(reason, LONG)
    use(monkeypatch, tiny(server.url), limits)
    found = load_dataset("mnist", seed=1)  # the reason tells which limit has ended it
    assert (found.source, found.x_train.shape) == ("synthetic", (6, 5, 5))
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert "SYNTHETIC DATA: mnist is not available" in record.getMessage()
    assert reason in record.getMessage()
    assert not cache.exists()
    assert server.requests <= 1


def test_real_refuses_the_stand_in_and_says_how_to_get_the_data(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = FAILURES["broken off"][0]
    use(monkeypatch, tiny(server.url))
    with pytest.raises(UserError) as caught:
        load_dataset("mnist", source="real")
    assert caught.value.where == "data.source=real"
    for text in ("broke off after", "data.dir=", "keras.datasets.mnist.load_data()"):
        assert text in str(caught.value)


def black_hole() -> tuple[socket.socket, str]:
    """A port that takes connections and never answers."""
    hole = socket.create_server(("127.0.0.1", 0))
    return hole, f"http://127.0.0.1:{hole.getsockname()[1]}/a"


def test_a_network_that_cannot_be_reached_is_told_quickly(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hole, url = black_hole()
    with hole:
        _unavailable(url, "timed out", STALL)
    # Now nobody listens there.
    _unavailable(url, "no network: 127.0.0.1", LONG)

    answered, released = [], threading.Event()

    def never(*args: Any, **options: Any) -> Any:
        answered.append(released.wait(PATIENCE))

    def unknown(*args: Any, **options: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    _unavailable("https://nowhere.invalid/a", "nowhere.invalid: host name not found", LONG)
    monkeypatch.setattr(socket, "getaddrinfo", never)
    _unavailable(
        "https://nowhere.invalid/a", "no network: nowhere.invalid: no answer within 0.5 s", SHORT
    )
    assert not answered  # it was not waited for
    released.set()
    assert not cache.exists()


def _unavailable(url: str, reason: str, limits: Limits) -> None:
    with pytest.raises(Unavailable, match=reason):
        load_original(tiny(url), limits)


def test_a_proxy_is_what_must_be_reachable(
    cache: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("http_proxy", server.url)
    server.answer = sending(CONTENT)
    x_train, *_ = load_original(tiny("http://nowhere.invalid/a"), LONG)
    assert np.array_equal(x_train, arrays()["x_train"])
    assert server.requests == 1


def test_a_damaged_file_in_the_cache_is_not_opened_but_replaced(
    cache: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache / "datasets/mnist.npz"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT[:-1])
    server.answer = FAILURES["other content"][0]
    with pytest.raises(Unavailable):
        load_original(tiny(server.url), LONG)
    assert path.read_bytes() == CONTENT[:-1]
    assert f"{path} is damaged" in caplog.text
    server.answer = sending(CONTENT)
    load_original(tiny(server.url), LONG)
    assert path.read_bytes() == CONTENT
    assert files(cache) == ["datasets", "datasets/mnist.npz"]


def test_of_several_files_none_is_kept_unless_all_are_whole(cache: Path, server: Server) -> None:
    images = tiny(server.url)
    second = replace(images.files[0], url=server.url + "2", places=("second.npz",))
    both = replace(images, files=(images.files[0], second))

    def answer(handler: BaseHTTPRequestHandler) -> None:
        sending(CONTENT if not handler.path.endswith("2") else b"?" * len(CONTENT))(handler)

    server.answer = answer
    with pytest.raises(Unavailable, match="checksum"):
        load_original(both, LONG)
    assert server.requests == 2
    assert not cache.exists()


def test_a_cache_that_cannot_be_written_to_is_done_without(
    cache: Path, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    cache.write_text("a file where the directory should be")
    server.answer = sending(CONTENT)
    x_train, *_ = load_original(tiny(server.url), LONG)
    assert np.array_equal(x_train, arrays()["x_train"])
    assert "cannot be saved in the cache" in caplog.text


def test_a_disk_that_fills_up_leaves_no_half_file(
    cache: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fill(source: Any, target: Any, length: int) -> None:
        target.write(source.read(100))
        raise OSError(errno.ENOSPC, "No space left on device")

    server.answer = sending(CONTENT)
    monkeypatch.setattr(download.shutil, "copyfileobj", fill)
    x_train, *_ = load_original(tiny(server.url), LONG)
    assert np.array_equal(x_train, arrays()["x_train"])
    assert "No space left on device" in caplog.text
    assert files(cache) == ["datasets"]
