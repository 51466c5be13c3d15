"""A real TensorBoard on a free port of this machine."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode


class Board:
    """A TensorBoard server, asked over HTTP."""

    def __init__(self, port: int, server: subprocess.Popen[bytes]) -> None:
        self._port, self._server = port, server

    def bytes(self, path: str, body: Any = None, **query: Any) -> bytes:
        """Return what the server answers under `/data/`; a body makes it a POST of JSON."""
        url = f"http://127.0.0.1:{self._port}/data/{path}"
        url += f"?{urlencode(query, quote_via=quote)}" if query else ""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return bytes(answer.read())

    def get(self, path: str, body: Any = None, **query: Any) -> Any:
        """Return the answer, parsed."""
        return json.loads(self.bytes(path, body, **query))

    def wait_until(self, true: Callable[[], Any]) -> Any:
        """Wait for something that the server will answer once it has read the files."""
        deadline, found = time.monotonic() + 600, None
        while not found and time.monotonic() < deadline and self._server.poll() is None:
            try:
                found = true()
            except (urllib.error.URLError, OSError, KeyError):
                found = None
            time.sleep(0 if found else 0.2)
        return found


@contextmanager
def serving(logdir: Path) -> Iterator[Board]:
    """Run TensorBoard on a directory."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "tensorboard.main"]
    options = ["--logdir", str(logdir), "--host", "127.0.0.1", "--port", str(port)]
    server = subprocess.Popen(
        [*program, *options, "--load_fast", "false", "--reload_interval", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield Board(port, server)
    finally:
        server.terminate()
        server.wait(timeout=120)
