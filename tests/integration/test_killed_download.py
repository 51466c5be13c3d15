"""A download that is killed leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from image_server import CONTENT, SHA, Server, cache, files, server, stalling
from places import ROOT

__all__ = ["cache", "server"]

PATIENCE = 300.0


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
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for number in (signal.SIGTERM, signal.SIGKILL):
        started.clear()
        process = subprocess.Popen([sys.executable, "-c", code], env=environment)
        assert started.wait(PATIENCE)
        time.sleep(0.2)
        process.send_signal(number)
        assert process.wait(PATIENCE) == -number
        assert not cache.exists()
        assert files(cache.parent) == []
