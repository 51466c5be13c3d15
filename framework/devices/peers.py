"""Connects the processes of a cluster before TensorFlow does, and exchanges facts between them.

The waiting here is in Python: a signal ends it at once, it has a deadline, and it names the missing
workers. TensorFlow's own waiting does none of this, and it overrides the SIGTERM handler.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import socket
import time
from collections.abc import Sequence
from typing import Any

from framework.errors import TrainingFailed, UserError

_log = logging.getLogger("framework")

_SOON = 0.2  # seconds between two checks
_PATIENCE = 2.0  # seconds of waiting before the first message
_BETWEEN_MESSAGES = 60.0  # seconds between two messages about waiting
_HELLO = "framework-worker-1"


class Peers:
    """Connect every worker to the chief, and exchange facts between all of them.

    The chief listens at its own address until all workers have connected, and then releases it
    for TensorFlow.

    Example:
        >>> peers = Peers(1, ["a:12345", "b:12345"])
        >>> peers.join(timeout=600.0)
        >>> peers.exchange("seed", {"seed": 0})
        [{'seed': 0}, {'seed': 0}]

    Args:
        index: Index of this worker; 0 is the chief.
        addresses: Addresses of all workers, as `host:port`.

    Raises:
        UserError: If an address is invalid.
    """

    def __init__(self, index: int, addresses: Sequence[str]) -> None:
        self.index, self.addresses = index, tuple(addresses)
        self._places = [_host_and_port(address) for address in addresses]
        self._links: dict[int, _Link] = {}
        self._timeout = math.inf
        self.joined = False

    def name(self, index: int) -> str:
        """Return a worker's name in messages."""
        return f"worker {index} ({self.addresses[index]})"

    def join(self, timeout: float | None) -> None:
        """Wait until all workers have connected; do nothing if they already have.

        `timeout` is in seconds, here and in each exchange; None: no limit.
        """
        self._timeout = math.inf if timeout is None else timeout
        if self.joined:
            return
        try:
            if self.index == 0:
                self._gather()
            else:
                self._listener().close()  # reports a port in use before TensorFlow does
                self._report()
        except BaseException:
            self.close()
            raise
        self.joined = True

    def exchange(self, about: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the facts of all workers, by index; `about`, their topic, must be the same."""
        mine = {"about": about, "facts": facts}
        patience = _Waiting(self, self._timeout)
        if self.index:
            self._links[0].send(mine)
            answer = self._receive_from(0, patience)
        else:
            said = [mine, *(self._receive_from(i, patience) for i in sorted(self._links))]
            answer = {"said": said}
            self.tell(answer)
        said = answer["said"]
        for index, each in enumerate(said):
            if each["about"] != about:
                raise TrainingFailed(
                    f"the workers are out of step: {self.name(index)} is at {each['about']}, "
                    f"{self.name(self.index)} at {about}",
                    where="trainer.strategy=multi_worker",
                    fix="Start all workers with the same command, code and data.",
                )
        return [each["facts"] for each in said]

    def close(self) -> None:
        """Close all connections."""
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _gather(self) -> None:
        waiting = _Waiting(self, self._timeout)
        with self._listener() as listener:
            listener.settimeout(_SOON)
            while missing := [i for i in range(1, len(self.addresses)) if i not in self._links]:
                waiting.check(missing)
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                self._welcome(_Link(connection))
        self.tell({"go": True})

    def _welcome(self, link: _Link) -> None:
        hello = link.receive(_PATIENCE)
        if not isinstance(hello, dict) or hello.get("hello") != _HELLO:
            link.close()  # something else that connected, such as a port scan
            return
        index, addresses = hello.get("index"), hello.get("addresses")
        if addresses != list(self.addresses):
            wrong = f"worker {index} has the cluster {addresses}, but the chief has another one"
        elif type(index) is not int or not 0 < index < len(self.addresses):
            wrong = f"a worker has the index {index}"
        elif index in self._links and not self._links[index].ended():
            wrong = f"two workers have the index {index}"
        else:
            self._links[index] = link
            return
        error = {"error": wrong, "cluster": list(self.addresses)}
        link.send(error)
        link.close()
        self.tell(error)
        raise _misconfigured(wrong, self.addresses)

    def _report(self) -> None:
        waiting, missing = _Waiting(self, self._timeout), [0]
        while True:
            link = self._reach(waiting)
            self._links[0] = link
            hello = {"hello": _HELLO, "index": self.index, "addresses": list(self.addresses)}
            link.send(hello)
            while not link.lost:
                waiting.check(missing)
                said = link.receive(_SOON) or {}
                self._raise_told(said)
                if "missing" in said:
                    missing = said["missing"]
                if "go" in said:
                    return
            missing = [0]  # the chief is gone, but may restart

    def _reach(self, waiting: _Waiting) -> _Link:
        while True:
            waiting.check([0])
            try:
                return _Link(socket.create_connection(self._places[0], timeout=_PATIENCE))
            except OSError:  # the chief does not listen yet, or its name cannot be resolved yet
                time.sleep(_SOON)

    def _receive_from(self, index: int, waiting: _Waiting) -> dict[str, Any]:
        link = self._links[index]
        while not link.lost:
            said = link.receive(_SOON) or {}
            self._raise_told(said)
            if said:
                return dict(said)
            waiting.check([index])
        self.tell({"gone": self.name(index)})
        raise _exited(self.name(index))

    def _raise_told(self, said: dict[str, Any]) -> None:
        if "error" in said:
            raise _misconfigured(said["error"], said["cluster"])
        if "late" in said:
            raise _late([self.name(i) for i in said["late"]], said["seconds"])
        if "gone" in said:
            raise _exited(said["gone"])

    def tell(self, what: dict[str, Any]) -> None:
        """Send something to every worker, from the chief."""
        for link in self._links.values() if self.index == 0 else ():
            link.send(what)

    def _listener(self) -> socket.socket:
        port = self._places[self.index][1]
        both = socket.has_dualstack_ipv6()
        family = socket.AF_INET6 if both else socket.AF_INET
        try:
            return socket.create_server(
                ("", port), family=family, dualstack_ipv6=both, backlog=len(self.addresses)
            )
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "is used by another process" if taken else f"cannot be used: {error.strerror}"
            raise UserError(
                f"port {port} of {self.name(self.index)} {why}",
                where="trainer.strategy=multi_worker",
                fix="Use other ports for the cluster, or end the process, such as an earlier run.",
            ) from None


class _Waiting:
    """A wait with a deadline, which logs the missing workers if it takes longer."""

    def __init__(self, peers: Peers, timeout: float) -> None:
        self._peers, self._timeout = peers, timeout
        self._began = time.monotonic()
        self._next = self._began + _PATIENCE

    def check(self, missing: list[int]) -> None:
        now, names = time.monotonic(), [self._peers.name(i) for i in missing]
        if now - self._began > self._timeout:
            self._peers.tell({"late": missing, "seconds": self._timeout})
            raise _late(names, self._timeout)
        if now >= self._next:
            self._next = now + _BETWEEN_MESSAGES
            _log.warning("worker %d is waiting for %s", self._peers.index, ", ".join(names))
            self._peers.tell({"missing": missing})


class _Link:
    """A connection that carries one JSON value per line."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._connection, self._read, self.lost = connection, b"", False

    def send(self, value: dict[str, Any]) -> None:
        try:
            self._connection.settimeout(None)
            self._connection.sendall(json.dumps(value).encode() + b"\n")
        except OSError:
            self.lost = not self._read

    def receive(self, seconds: float) -> Any:
        """Return the next value, or None if it does not arrive in time or `lost` is set."""
        until = time.monotonic() + seconds
        while b"\n" not in self._read:
            left = until - time.monotonic()
            if left <= 0:
                return None
            try:
                self._connection.settimeout(left)
                read = self._connection.recv(1 << 16)
            except TimeoutError:
                return None
            except OSError:
                read = b""
            if not read:
                self.lost = True
                return None
            self._read += read
        line, _, self._read = self._read.partition(b"\n")
        try:
            return json.loads(line)
        except ValueError:
            return None

    def ended(self) -> bool:
        """Return whether the other end has closed the connection."""
        return self.lost or (self.receive(0.01) is None and self.lost)

    def close(self) -> None:
        self._connection.close()


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(
            f"{address!r} is not the address of a worker",
            where="trainer.strategy=multi_worker",
            fix="Give each as host:port.",
        )
    return host.strip("[]"), int(port)


def _late(names: list[str], seconds: float) -> TrainingFailed:
    return TrainingFailed(
        f"{', '.join(names)} did not respond within {seconds:g} s",
        where="trainer.peers_timeout",
        fix="Check that they have started and can be reached at these addresses. Start all "
        "workers again, or wait longer: trainer.peers_timeout=2h, or null for no limit.",
    )


def _exited(name: str) -> TrainingFailed:
    return TrainingFailed(
        f"{name} has exited before the first step",
        where="trainer.strategy=multi_worker",
        fix="Fix the error in its output, and start all workers again.",
    )


def _misconfigured(what: str, addresses: Sequence[str]) -> UserError:
    return UserError(
        what,
        where="trainer.strategy=multi_worker",
        fix=f"Give all workers the same list and each a different index: {', '.join(addresses)}.",
    )
