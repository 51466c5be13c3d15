"""Files of images, an empty cache for them, and a server on localhost to load them from."""

from __future__ import annotations

import contextlib
import hashlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest


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
                    outer.answer(self)

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


def files(path: Path) -> list[str]:
    return sorted(str(p.relative_to(path)) for p in path.rglob("*")) if path.exists() else []
