"""Image sets by name: from a directory, Keras's cache, the network, or the stand-in."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from framework.datasets import download
from framework.datasets import named as datasets
from framework.datasets import published as originals
from framework.datasets.download import Limits, Remote, Unavailable
from framework.datasets.named import image_data, load_dataset
from framework.datasets.npz import read_npz
from framework.datasets.published import IMAGE_SETS, ImageSet, load_original
from framework.errors import UserError

SHORT = Limits(connect=0.5, stall=0.5, total=1.5)
# Where an answer comes: the machine may be busy. And one for each way in which none comes.
LONG = Limits(connect=120.0, stall=120.0, total=600.0)
STALL = replace(LONG, stall=0.5)
TOTAL = replace(LONG, total=1.5)
PATIENCE = 300.0


def arrays(rows: tuple[int, int] = (6, 4), shape: tuple[int, ...] = (5, 5)) -> dict[str, Any]:
    random = np.random.RandomState(0)
    made: dict[str, Any] = {}
    for split, count in zip(("train", "test"), rows, strict=True):
        made[f"x_{split}"] = random.randint(0, 256, (count, *shape)).astype("uint8")
        made[f"y_{split}"] = (np.arange(count) % 3).astype("uint8")
    return made


def npz(**content: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **content)
    return stream.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty Keras home, which need not exist."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "keras"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks for the network fails the test."""

    def refuse(*args: Any, **options: Any) -> None:
        pytest.fail("the network was touched")

    for name in ("create_connection", "getaddrinfo", "socket"):
        monkeypatch.setattr(socket, name, refuse)


# --- from a directory ---------------------------------------------------------------------------


def test_a_file_in_a_directory_is_read_as_it_is_stored(tmp_path: Path, offline: None) -> None:
    wanted = arrays()
    np.savez_compressed(tmp_path / "mnist.npz", **wanted, extra=np.array([{}], object))
    for source in ("auto", "real"):
        found = load_dataset("mnist", dir=tmp_path, source=source)
        for key, array in wanted.items():
            assert np.array_equal(getattr(found, key), array)
            assert getattr(found, key).dtype == array.dtype
        assert (found.name, found.num_classes, found.source) == ("mnist", 10, "dir")


def test_a_set_of_any_name_counts_its_classes(tmp_path: Path) -> None:
    content = arrays()
    content["x_train"] = content["x_train"].astype("float64") / 255
    content["x_test"] = content["x_test"].astype("float64") / 255
    content["y_train"] = content["y_train"].astype("int64").reshape(-1, 1)
    content["y_test"][0] = 6
    np.savez(tmp_path / "flowers.npz", **content)
    found = load_dataset("flowers", dir=str(tmp_path))
    assert found.num_classes == 7
    assert found.x_train.dtype == np.float64
    assert found.y_train.tolist() == [0, 1, 2, 0, 1, 2]
    assert found.y_train.dtype == np.int64


def changed(**changes: Any) -> Callable[[], bytes]:
    return lambda: npz(**{k: v for k, v in {**arrays(), **changes}.items() if v is not None})


def damaged() -> bytes:
    """One bit of an array is wrong; the directory of the archive is whole."""
    content = bytearray(npz(**arrays()))
    content[content.index(arrays()["x_test"].tobytes()) + 3] ^= 1
    return bytes(content)


def boastful() -> bytes:
    """The header of an array promises more than any memory holds."""
    stream = io.BytesIO(npz(**arrays()))
    huge = str((10**9, 9, 10**6)).rjust(len("(6, 5, 5), }") + 18)
    member = io.BytesIO()
    np.save(member, arrays()["x_train"])
    body = member.getvalue()
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {huge}, }}".ljust(117) + "\n"
    body = body[:8] + len(header).to_bytes(2, "little") + header.encode() + body[128:]
    rebuilt = io.BytesIO()
    with zipfile.ZipFile(stream) as old, zipfile.ZipFile(rebuilt, "w") as new:
        for name in old.namelist():
            new.writestr(name, body if name == "x_train.npy" else old.read(name))
    return rebuilt.getvalue()


def gaps(value: float, dtype: str) -> Callable[[], bytes]:
    def make() -> bytes:
        content = arrays()
        content["x_train"] = content["x_train"].astype(dtype)
        content["x_test"] = content["x_test"].astype(dtype)
        content["x_train"][2, 1, 1] = content["x_train"][4, 0, 0] = value
        return npz(**content)

    return make


Y = np.arange(6) % 3
# What the file holds, and what the message must say beside the file's name.
FAULTS: dict[str, tuple[Callable[[], bytes], list[str]]] = {
    "empty file": (lambda: b"", ["is empty"]),
    "no npz": (lambda: b"a,b\n1,2\n" * 99, ["cannot be read", "np.savez"]),
    "a pickle": (lambda: pickle.dumps({"x_train": 1}), ["cannot be read"]),
    "truncated": (lambda: npz(**arrays())[:-400], ["cannot be read"]),
    "damaged": (damaged, ["x_test in flowers.npz cannot be read", "CRC"]),
    "header out of proportion": (boastful, ["its header tells of 9,000,000,000,000,128 bytes"]),
    "no arrays": (lambda: b"PK\x05\x06" + bytes(18), ["has no x_train", "no arrays"]),
    "missing key": (
        lambda: npz(**{("labels" if k == "y_test" else k): v for k, v in arrays().items()}),
        ["has no y_test", "labels, x_test, x_train, y_train"],
    ),
    "Python objects": (
        changed(x_train=np.array([[[object()]]] * 6, object)),
        ["x_train holds Python objects", "never loaded"],
    ),
    "words": (changed(x_train=np.full((6, 5, 5), "a")), ["x_train holds <U1"]),
    "rows differ": (changed(y_train=Y[:5]), ["x_train has 6 rows and y_train has 5"]),
    "rows of the test split differ": (changed(y_test=Y), ["x_test has 4 rows and y_test has 6"]),
    "empty split": (
        changed(x_test=np.zeros((0, 5, 5), "uint8"), y_test=Y[:0]),
        ["x_test is empty"],
    ),
    "no labels": (changed(y_test=Y[:0]), ["y_test is empty"]),
    "table": (changed(x_train=np.zeros((6, 7))), ["x_train has shape (6, 7)", "height"]),
    "one number": (changed(x_train=np.float32(3)), ["x_train has shape ()"]),
    "shapes differ": (changed(x_test=np.zeros((4, 5, 6), "uint8")), ["(5, 5)", "(5, 6)"]),
    "types differ": (changed(x_test=np.zeros((4, 5, 5), "float32")), ["uint8", "float32"]),
    "one-hot labels": (changed(y_train=np.eye(6)), ["y_train has shape (6, 6)", "argmax(axis=1)"]),
    "labels of three dimensions": (changed(y_train=Y.reshape(6, 1, 1)), ["shape (6, 1, 1)"]),
    "fractional labels": (changed(y_test=Y[:4] / 2), ["y_test holds float64, not whole numbers"]),
    "negative label": (changed(y_train=Y - 1), ["y_train is -1 in row 0"]),
    "NaN": (gaps(np.nan, "float32"), ["x_train has NaN or infinity in 2 of 6 rows", "row 2"]),
    "infinity": (gaps(np.inf, "float16"), ["in 2 of 6 rows", "first in row 2"]),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_file_is_named_with_its_fault(name: str, tmp_path: Path) -> None:
    make, wanted = FAULTS[name]
    path = tmp_path / "flowers.npz"
    path.write_bytes(make())
    with pytest.raises(UserError) as caught:
        load_dataset("flowers", dir=tmp_path)
    assert str(path) in str(caught.value.where)
    for text in wanted:
        assert text in str(caught.value)
    assert caught.value.fix


def test_a_pickle_inside_is_never_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "exploded",))

    (tmp_path / "flowers.npz").write_bytes(npz(**arrays() | {"x_train": np.array([Bomb()])}))
    with pytest.raises(UserError, match="Python objects"):
        load_dataset("flowers", dir=tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_gaps_are_found_across_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("framework.datasets.npz._SCAN", 50)  # two images of 5 x 5 at once
    x = np.zeros((9, 5, 5), "float32")
    x[[3, 4, 8], 0, 0] = [np.nan, -np.inf, np.nan]
    np.savez(tmp_path / "a.npz", **arrays() | {"x_train": x, "y_train": np.zeros(9, int)})
    wanted = "x_train has NaN or infinity in 3 of 9 rows, first in row 3"
    with pytest.raises(UserError, match=wanted):
        # Only once: x_test is whole numbers, but that is complained of later.
        read_npz(tmp_path / "a.npz")


def test_a_label_beyond_the_classes_of_a_known_set_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "mnist.npz", **arrays() | {"y_test": np.array([0, 10, 3, 2])})
    with pytest.raises(UserError, match="y_test has a label 10, but mnist has 10 classes"):
        load_dataset("mnist", dir=tmp_path)


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "flowers.npz", **arrays())
    for name, dir, wanted in (
        ("flower", tmp_path, ["flower.npz", "Did you mean 'flowers'?"]),
        ("mnist", tmp_path / "nope", [str(tmp_path / "nope" / "mnist.npz"), "no directory"]),
        ("mnist", tmp_path / "flowers.npz", ["no directory"]),
    ):
        with pytest.raises(UserError) as caught:
            load_dataset(name, dir=dir)
        assert caught.value.where == "data.dir"
        for text in wanted:
            assert text in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"Put mnist\.npz there"):
        load_dataset("mnist", dir=tmp_path / "empty")
    with pytest.raises(UserError, match="dir is empty"):
        load_dataset("mnist", dir="")
    (tmp_path / "mnist.npz").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        load_dataset("mnist", dir=tmp_path)


def test_reading_holds_each_array_once(tmp_path: Path) -> None:
    content = arrays(rows=(4000, 1000), shape=(32, 32, 3))
    np.savez(tmp_path / "flowers.npz", **content)
    size = sum(array.nbytes for array in content.values())
    del content
    tracemalloc.start()
    try:
        found = load_dataset("flowers", dir=tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.x_train.nbytes + found.x_test.nbytes <= size
    assert peak < 1.1 * size


# --- names and sources --------------------------------------------------------------------------


def test_an_unknown_name_or_source_gets_its_closest_match(offline: None) -> None:
    with pytest.raises(UserError) as caught:
        load_dataset("cifar_100")
    assert caught.value.where == "data.name"
    assert "Did you mean 'cifar100'?" in str(caught.value)
    assert "data.dir" in str(caught.value)
    with pytest.raises(UserError, match="cifar10, cifar100, fashion_mnist, mnist"):
        load_dataset("imagenet", source="synthetic")
    with pytest.raises(UserError, match="Did you mean 'synthetic'") as caught:
        load_dataset("mnist", source="syntetic")
    assert caught.value.where == "data.source"


@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_synthetic_touches_no_network_and_is_announced_once(
    name: str, cache: Path, offline: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "framework"):
        found = load_dataset(name, source="synthetic", seed=3)
    shape, classes = {"mnist": ((28, 28), 10), "cifar100": ((32, 32, 3), 100)}[name]
    rows = {"mnist": 60_000, "cifar100": 50_000}[name]
    assert (found.x_train.shape, found.x_test.shape) == ((rows, *shape), (10_000, *shape))
    assert (found.y_train.shape, found.y_test.shape) == ((rows,), (10_000,))
    assert found.x_train.dtype == found.y_train.dtype == np.uint8
    assert sorted(set(found.y_test.tolist())) == list(range(classes))
    assert (found.num_classes, found.source) == (classes, "synthetic")
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("SYNTHETIC DATA: ")
    assert "\n" not in record.getMessage()
    assert name in record.getMessage()
    assert not cache.exists()


# --- the network --------------------------------------------------------------------------------

Answer = Callable[[BaseHTTPRequestHandler], None]


class Server:
    """A local server that answers as told, and counts the requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.answer: Answer = lambda handler: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                with contextlib.suppress(OSError):  # the client gives up, as some tests want
                    outer.handle(self)

            def log_message(self, *args: Any) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}/data"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


CONTENT = npz(**arrays())
SHA = hashlib.sha256(CONTENT).hexdigest()


def sending(content: bytes, promised: int | None = None) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(promised or len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def stalling(handler: BaseHTTPRequestHandler) -> None:
    sending(CONTENT[:500], len(CONTENT))(handler)
    time.sleep(120)


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


def files(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*")) if path.exists() else []


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
    assert "SYNTHETIC DATA: mnist could not be had" in record.getMessage()
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
    _unavailable("https://nowhere.invalid/a", "nowhere.invalid: its name is not found", LONG)
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
    assert "cannot be kept in the cache" in caplog.text


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


def test_a_killed_download_leaves_nothing(cache: Path, server: Server) -> None:
    started = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        started.set()
        stalling(handler)

    server.answer = answer
    code = (
        "from framework.datasets.published import *; import framework.datasets.published as o\n"
        f"r = Remote({server.url!r}, {SHA!r}, {len(CONTENT)}, ('a.npz',))\n"
        "load_original(ImageSet((5, 5), (6, 4), 3, (r,), o._read_npz))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    for number in (signal.SIGTERM, signal.SIGKILL):
        started.clear()
        process = subprocess.Popen([sys.executable, "-c", code], env=environment)
        assert started.wait(PATIENCE)
        time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
        assert not cache.exists()
        assert files(cache.parent) == []


# --- how the published files are stored ---------------------------------------------------------


def publish(cache: Path, images: ImageSet, contents: list[bytes]) -> ImageSet:
    """Put files into the cache, and return the set with their checksums."""
    remotes = []
    for remote, content in zip(images.files, contents, strict=True):
        path = cache / "datasets" / remote.places[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        remotes.append(replace(remote, sha256=hashlib.sha256(content).hexdigest()))
    return replace(images, files=tuple(remotes))


def test_fashion_mnist_is_read_from_idx_files(cache: Path, offline: None) -> None:
    wanted = arrays((6, 4), (28, 28))

    def idx(array: np.ndarray) -> bytes:
        sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
        return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())

    images = replace(IMAGE_SETS["fashion_mnist"], rows=(6, 4))
    for remote in images.files:  # the names say which file is which
        assert remote.url.endswith(remote.places[0].rpartition("/")[2])
    contents = []
    for remote in images.files:
        split = "train" if "train" in remote.url else "test"
        contents.append(idx(wanted[("x_" if "images" in remote.url else "y_") + split]))
    found = load_original(publish(cache, images, contents))
    for key, array in zip(("x_train", "y_train", "x_test", "y_test"), found, strict=True):
        assert np.array_equal(array, wanted[key])


def archive(members: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            content = content if isinstance(content, bytes) else pickle.dumps(content, 3)
            info = tarfile.TarInfo(f"cifar/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def planes(images: np.ndarray) -> np.ndarray:
    """Rows of all red, then all green, then all blue pixels, as CIFAR has them."""
    return np.concatenate([images[..., c].reshape(len(images), -1) for c in range(3)], axis=1)


def test_cifar_is_read_from_its_archives(cache: Path, offline: None) -> None:
    wanted = arrays((2000, 4), (32, 32, 3))
    x, y = wanted["x_train"], wanted["y_train"]
    test = {b"data": planes(wanted["x_test"])}
    hundred = {
        "meta": b"no pickle at all",
        "test": {**test, b"fine_labels": wanted["y_test"].tolist(), b"coarse_labels": [9] * 4},
        "train": {b"data": planes(x), b"fine_labels": y.tolist(), b"coarse_labels": [9] * 2000},
    }
    ten: dict[str, Any] = {"test_batch": {**test, b"labels": wanted["y_test"].tolist()}}
    for i in (3, 1, 2, 5, 4):
        part = slice(400 * (i - 1), 400 * i)
        ten[f"data_batch_{i}"] = {b"data": planes(x[part]), b"labels": y[part].tolist()}
    for name, members in (("cifar100", hundred), ("cifar10", ten)):
        images = replace(IMAGE_SETS[name], rows=(2000, 4))
        found = load_original(publish(cache, images, [archive(members)]))
        for key, array in zip(("x_train", "y_train", "x_test", "y_test"), found, strict=True):
            assert np.array_equal(array, wanted[key]), (name, key)
            assert array.dtype == np.uint8
            assert array.flags.c_contiguous


def test_an_archive_unpickles_nothing_but_arrays(cache: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(cache / "exploded"),))

    members = {"train": {b"data": Bomb()}, "test": {}}
    images = publish(cache, IMAGE_SETS["cifar100"], [archive(members)])
    with pytest.raises(pickle.UnpicklingError, match="no part of an array"):
        load_original(replace(images, rows=(5, 5)))
    # With another checksum it is not even opened.
    with pytest.raises(Unavailable):
        load_original(_forged(images), LONG)
    assert not (cache / "exploded").exists()


def _forged(images: ImageSet) -> ImageSet:
    remote = replace(images.files[0], sha256="0" * 64, url="http://127.0.0.1:1/a")
    return replace(images, files=(remote,))


def test_the_published_files_are_those_of_keras() -> None:
    import inspect

    import keras

    for name, images in IMAGE_SETS.items():
        module = getattr(keras.datasets, name)
        source = inspect.getsource(inspect.getmodule(module.load_data))  # type: ignore[arg-type]
        for remote in images.files:
            base, _, file = remote.url.rpartition("/")
            assert base in source
            assert file in source
            # Keras checks no checksum of Fashion-MNIST.
            assert remote.sha256 in source or name == "fashion_mnist"
        place = images.files[0].places[0].removesuffix("_archive").rpartition("/")[2]
        assert place in source


# --- as the Data of a task ----------------------------------------------------------------------


def test_image_data_scales_and_adds_the_channel_axis_in_the_graph(tmp_path: Path) -> None:
    import tensorflow as tf

    for dtype, scale in (("uint8", 255), ("int64", 255), ("float64", 1), ("bool", 1)):
        for shape in ((5, 5), (5, 5, 3)):
            content = arrays(shape=shape)
            for key in ("x_train", "x_test"):
                content[key] = content[key].astype(dtype)
            np.savez(tmp_path / "flowers.npz", **content)
            data = image_data("flowers", dir=tmp_path, batch_size=4, val_fraction=0.5)
            x, y = data.train
            assert np.asarray(x).dtype == dtype
            assert data.map is not None
            images, labels = tf.function(data.map)((tf.constant(x), tf.constant(y)))
            wanted = content["x_train"].reshape(6, 5, 5, -1) / scale
            assert images.dtype == tf.float32
            np.testing.assert_allclose(images, wanted, rtol=1e-6)
            assert np.array_equal(labels, content["y_train"])
    assert (data.batch_size, data.eval_batch_size, data.shuffle) == (4, None, True)
    assert data.val_fraction == 0.5
    assert np.array_equal(data.test[0], content["x_test"])
    wanted_info = {"name": "flowers", "source": "dir", "num_classes": 3}
    assert {key: data.info[key] for key in wanted_info} == wanted_info


def test_image_data_takes_an_augmentation_unless_it_is_off(tmp_path: Path) -> None:
    from framework.datasets.augment import Augment

    np.savez(tmp_path / "flowers.npz", **arrays())

    def other(batch: Any, seed: Any) -> Any:
        return batch

    for given, wanted in ((None, None), (Augment(), None), (Augment(crop=1),) * 2, (other,) * 2):
        assert image_data("flowers", dir=tmp_path, augment=given).augment == wanted


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"batch_size": 0}, "data.batch_size"),
        ({"eval_batch_size": -1}, "data.eval_batch_size"),
        ({"val_fraction": 1.0}, "data.val_fraction"),
        ({"source": "fake"}, "data.source"),
        ({"name": "minst"}, "data.name"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_loaded(
    options: dict[str, Any], where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(datasets, "load_original", lambda *a: pytest.fail("it was loaded"))
    with pytest.raises(UserError) as caught:
        image_data(**{"name": "mnist", **options})
    assert caught.value.where == where
