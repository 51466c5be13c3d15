"""What the processes of a cluster tell each other before TensorFlow connects them, and beside it.

Waiting here is Python's: a signal ends it at once, it has a deadline, and it knows who is missing.
TensorFlow's own waiting has neither, and it takes SIGTERM over meanwhile.
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

_SOON = 0.2  # seconds between two looks
_PATIENCE = 2.0  # seconds of waiting that are not worth a word
_AGAIN = 60.0  # seconds between two words about waiting
_HELLO = "framework-worker-1"


class Peers:
    """Connects every worker to the chief, and lets all of them see what each has said.

    The chief listens at its own address until all have come, and frees it for TensorFlow then.

    Example:
        >>> peers = Peers(1, ["a:12345", "b:12345"])
        >>> peers.join(timeout=600.0)
        >>> peers.exchange("seed", {"seed": 0})
        [{'seed': 0}, {'seed': 0}]

    Args:
        index: Which worker this is; 0 is the chief.
        addresses: Of all workers, as `host:port`.

    Raises:
        UserError: An address is not one.
    """

    def __init__(self, index: int, addresses: Sequence[str]) -> None:
        self.index, self.addresses = index, tuple(addresses)
        self._places = [_place(address) for address in addresses]
        self._links: dict[int, _Link] = {}
        self._timeout = math.inf
        self.joined = False

    def name(self, index: int) -> str:
        """Return how a worker is called in messages."""
        return f"worker {index} ({self.addresses[index]})"

    def join(self, timeout: float | None) -> None:
        """Wait until all workers have come; if they have already, do nothing.

        Args:
            timeout: Seconds to wait for others, here and in each exchange. None: for ever.

        Raises:
            UserError: This worker's port is taken, or another one was started otherwise.
            TrainingFailed: Somebody has not come in time.
        """
        self._timeout = math.inf if timeout is None else timeout
        if self.joined:
            return
        try:
            if self.index == 0:
                self._gather()
            else:
                self._listener().close()  # a port that is taken is found now, not by TensorFlow
                self._report()
        except BaseException:
            self.close()
            raise
        self.joined = True

    def exchange(self, about: str, facts: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what every worker has given, by its number.

        Args:
            about: What this is, the same on all of them.
            facts: What JSON can hold.

        Raises:
            TrainingFailed: Somebody has ended, is at something else, or gives nothing in time.
        """
        mine = {"about": about, "facts": facts}
        patience = _Waiting(self, self._timeout)
        if self.index:
            self._links[0].send(mine)
            answer = self._heard(0, patience)
        else:
            said = [mine, *(self._heard(i, patience) for i in sorted(self._links))]
            answer = {"said": said}
            self._tell(answer)
        said = answer["said"]
        for index, each in enumerate(said):
            if each["about"] != about:
                raise TrainingFailed(
                    f"{self.name(index)} is at {each['about']}, {self.name(self.index)} at {about}",
                    where="trainer.strategy=multi_worker",
                    fix="Start all workers with the same command, code and data.",
                )
        return [each["facts"] for each in said]

    def close(self) -> None:
        """End all connections."""
        for link in self._links.values():
            link.close()
        self._links.clear()

    def _gather(self) -> None:
        waiting = _Waiting(self, self._timeout)
        with self._listener() as listener:
            listener.settimeout(_SOON)
            while missing := [i for i in range(1, len(self.addresses)) if i not in self._links]:
                waiting.check(missing, tell=self._tell)
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                self._welcome(_Link(connection))
        self._tell({"go": True})

    def _welcome(self, link: _Link) -> None:
        hello = link.receive(_PATIENCE)
        if not isinstance(hello, dict) or hello.get("hello") != _HELLO:
            link.close()  # somebody who looks whether the port is open
            return
        index, addresses = hello.get("index"), hello.get("addresses")
        if addresses != list(self.addresses):
            wrong = f"worker {index} was told of the cluster {addresses}, the chief of another"
        elif type(index) is not int or not 0 < index < len(self.addresses):
            wrong = f"a worker has the number {index}"
        elif index in self._links and not self._links[index].ended():
            wrong = f"two workers have the number {index}"
        else:
            self._links[index] = link
            return
        error = {"error": wrong, "cluster": list(self.addresses)}
        link.send(error)
        link.close()
        self._tell(error)
        raise _otherwise(wrong, self.addresses)

    def _report(self) -> None:
        waiting, missing = _Waiting(self, self._timeout), [0]
        while True:
            link = self._reach(waiting)
            self._links[0] = link
            hello = {"hello": _HELLO, "index": self.index, "addresses": list(self.addresses)}
            link.send(hello)
            while not link.lost:
                waiting.check(missing)
                said = link.receive(_SOON)
                if said and "error" in said:
                    raise _otherwise(said["error"], said["cluster"])
                if said and "late" in said:
                    raise _late([self.name(i) for i in said["late"]], said["seconds"])
                if said and "missing" in said:
                    missing = said["missing"]
                if said and "go" in said:
                    return
            missing = [0]  # the chief is gone, and may come again

    def _reach(self, waiting: _Waiting) -> _Link:
        while True:
            waiting.check([0])
            try:
                return _Link(socket.create_connection(self._places[0], timeout=_PATIENCE))
            except OSError:  # it does not listen yet, or has no name yet
                time.sleep(_SOON)

    def _heard(self, index: int, waiting: _Waiting) -> dict[str, Any]:
        link = self._links[index]
        while not link.lost:
            said = link.receive(_SOON)
            if said and "late" in said:
                raise _late([self.name(i) for i in said["late"]], said["seconds"])
            if said and "gone" in said:
                raise _gone(said["gone"])
            if said:
                return dict(said)
            waiting.check([index], tell=self._tell if self.index == 0 else None)
        if self.index == 0:
            self._tell({"gone": self.name(index)})
        raise _gone(self.name(index))

    def _tell(self, what: dict[str, Any]) -> None:
        for link in self._links.values():
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
            why = "is taken by another process" if taken else f"cannot be used: {error.strerror}"
            raise UserError(
                f"port {port} of {self.name(self.index)} {why}",
                where="trainer.strategy=multi_worker",
                fix="Give the cluster other ports, or end what holds it: an earlier run?",
            ) from None


class _Waiting:
    """One wait: says whom it is for, once it takes longer, and ends it at its deadline."""

    def __init__(self, peers: Peers, timeout: float) -> None:
        self._peers, self._timeout = peers, timeout
        self._began = time.monotonic()
        self._next = self._began + _PATIENCE

    def check(self, missing: list[int], tell: Any = None) -> None:
        now, names = time.monotonic(), [self._peers.name(i) for i in missing]
        if now - self._began > self._timeout:
            if tell:
                tell({"late": missing, "seconds": self._timeout})
            raise _late(names, self._timeout)
        if now >= self._next:
            self._next = now + _AGAIN
            _log.warning("worker %d is waiting for %s", self._peers.index, ", ".join(names))
            if tell:
                tell({"missing": missing})


class _Link:
    """A connection that carries one JSON value a line."""

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
        """Return the next value, or None if there is none in time; then see `lost`."""
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
        """Tell whether the other end is closed."""
        return self.lost or (self.receive(0.01) is None and self.lost)

    def close(self) -> None:
        self._connection.close()


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UserError(
            f"{address!r} is not an address of a worker",
            where="trainer.strategy=multi_worker",
            fix="Give each as host:port.",
        )
    return host.strip("[]"), int(port)


def _late(names: list[str], seconds: float) -> TrainingFailed:
    return TrainingFailed(
        f"{', '.join(names)} did not come within {seconds:g} s",
        where="trainer.peers_timeout",
        fix="See what they say: have they started, and can they be reached at these addresses? "
        "Start all of them again, or wait longer: trainer.peers_timeout=2h, or null.",
    )


def _gone(name: str) -> TrainingFailed:
    return TrainingFailed(
        f"{name} has ended before the first step",
        where="trainer.strategy=multi_worker",
        fix="See what it says, mend that, and start all of them again.",
    )


def _otherwise(what: str, addresses: Sequence[str]) -> UserError:
    return UserError(
        what,
        where="trainer.strategy=multi_worker",
        fix=f"Give all the same list, each a number of its own: {', '.join(addresses)}.",
    )
