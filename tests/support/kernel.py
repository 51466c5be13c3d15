"""A real Jupyter kernel: runs cells, interrupts them, and keeps what they show."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager
from places import ROOT

_SECONDS = 300


@dataclass
class Shown:
    """What a cell has shown.

    Attributes:
        printed: Standard output and error by name.
        displays: Every state of every display, in order; an update is a new state.
        areas: The latest state of each display that can be updated, by its id.
        result: The value of the last expression, as text.
        error: The name of the exception, and what the cell shows of it.
    """

    printed: dict[str, str] = field(default_factory=lambda: {"stdout": "", "stderr": ""})
    displays: list[dict[str, str]] = field(default_factory=list)
    areas: dict[str, dict[str, str]] = field(default_factory=dict)
    result: str = ""
    error: tuple[str, list[str]] | None = None

    def add(self, kind: str, content: dict[str, Any]) -> None:
        if kind == "stream":
            self.printed[content["name"]] += content["text"]
        elif kind == "error":
            self.error = (content["ename"], content["traceback"])
        elif kind == "execute_result":
            self.result = content["data"]["text/plain"]
            self.displays.append(content["data"])
        elif kind in ("display_data", "update_display_data"):
            self.displays.append(content["data"])
            name = content.get("transient", {}).get("display_id")
            if name:
                self.areas[name] = content["data"]


class Kernel:
    """A running kernel."""

    def __init__(self, manager: KernelManager, client: Any) -> None:
        self._manager, self._client = manager, client

    def run(self, source: str, interrupt: Callable[[Shown], bool] | None = None) -> Shown:
        """Run a cell; interrupt it once, as soon as what it has shown fulfils a condition."""
        asked = self._client.execute(source)
        shown = Shown()
        while True:
            message = self._client.get_iopub_msg(timeout=_SECONDS)
            if message["parent_header"].get("msg_id") != asked:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return shown
            shown.add(kind, content)
            if interrupt is not None and interrupt(shown):
                self._manager.interrupt_kernel()
                interrupt = None

    def value(self, expression: str) -> Any:
        """Return the value of an expression that is made of literals."""
        shown = self.run(f"print(repr({expression}))")
        assert shown.error is None, shown.error
        return eval(shown.printed["stdout"])


@contextmanager
def started_kernel(cwd: Path) -> Iterator[Kernel]:
    """Start a kernel in a directory, and end it."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(cwd), env=os.environ | {"PYTHONPATH": str(ROOT)})
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=_SECONDS)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
