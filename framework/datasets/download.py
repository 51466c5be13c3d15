"""Downloads files into Keras's cache, atomically and with time limits."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import socket
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

_BLOCK = 2**20  # bytes
_log = logging.getLogger("framework")


class Unavailable(Exception):
    """A file that is not in the cache and cannot be downloaded; the message says why."""


@dataclass(frozen=True)
class Remote:
    """A published file.

    Args:
        url: URL of the file.
        sha256: Its checksum in hex. A file with a different checksum is never used.
        size: Its length in bytes.
        places: Paths in the cache's `datasets` directory where Keras stores it; a download uses
            the first one.
    """

    url: str
    sha256: str
    size: int
    places: tuple[str, ...]


@dataclass(frozen=True)
class Limits:
    """Time limits of downloads in seconds: to connect, for the next bytes, and for everything."""

    connect: float = 3.0
    stall: float = 10.0
    total: float = 900.0


def obtain(
    remotes: Sequence[Remote], cleanup: ExitStack, limits: Limits | None = None
) -> list[IO[bytes]]:
    """Open published files from Keras's cache, or else from the network, and verify checksums.

    Cached files are used without any network access. Others are downloaded to anonymous temporary
    files, and copied into the cache when all of them are complete.

    Example:
        >>> with ExitStack() as cleanup:
        ...     (file,) = obtain([remote], cleanup)
        ...     first = file.read(2)

    Raises:
        Unavailable: If a file is not cached and cannot be downloaded within the limits.
    """
    limits = limits or Limits()
    found: dict[Remote, IO[bytes]] = {}
    for remote in remotes:
        cached = _cached(remote)
        if cached:
            found[remote] = cleanup.enter_context(cached)
    missing = [remote for remote in remotes if remote not in found]
    if missing:
        for url in {urllib.parse.urlsplit(r.url).netloc: r.url for r in missing}.values():
            _check_reachable(url, limits.connect)
        files = _download(missing, cleanup, limits)
        for remote, file in zip(missing, files, strict=True):
            _keep(remote, file)
            found[remote] = file
    return [found[remote] for remote in remotes]


def cache_dir() -> Path:
    """Return the directory where Keras stores data sets; it may not exist."""
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras").expanduser()
    # Keras does the same if its home directory is not writable.
    if home.exists() and not os.access(home, os.W_OK):
        home = Path(tempfile.gettempdir()) / ".keras"
    return home / "datasets"


def _cached(remote: Remote) -> IO[bytes] | None:
    for place in remote.places:
        path = cache_dir() / place
        if not path.is_file():  # reading a pipe would block
            continue
        try:
            file = path.open("rb")
        except OSError:
            continue
        digest = hashlib.sha256()
        while block := file.read(_BLOCK):
            digest.update(block)
        if digest.hexdigest() == remote.sha256:
            file.seek(0)
            return file
        file.close()
        _log.warning("%s is damaged, incomplete or outdated, and is not used", path)
    return None


def _check_reachable(url: str, seconds: float) -> None:
    """Raise Unavailable unless the host of `url`, or its proxy, accepts a connection."""
    parts = urllib.parse.urlsplit(url)
    host = parts.hostname or ""
    proxy = urllib.request.getproxies().get(parts.scheme)
    if proxy and not urllib.request.proxy_bypass(host):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}", scheme="http")
    try:
        port = parts.port or {"https": 443}.get(parts.scheme, 80)
        address = (parts.hostname or "", port)
        _bounded(lambda: socket.create_connection(address, seconds).close(), seconds)
    except (OSError, ValueError) as error:
        raise Unavailable(f"no network: {parts.hostname}: {_reason(error)}") from None


def _download(remotes: Sequence[Remote], cleanup: ExitStack, limits: Limits) -> list[IO[bytes]]:
    """Download all files to anonymous files, which disappear with the process."""
    folder = cache_dir()
    while not folder.is_dir():
        folder = folder.parent
    near = folder if os.access(folder, os.W_OK) else None
    given_up = threading.Event()
    files: list[IO[bytes]] = []

    def fetch() -> None:
        for remote, file in zip(remotes, files, strict=True):
            _log.info("Downloading %s (%.1f MB)", remote.url, remote.size / 1e6)
            _fetch(remote, file, limits.stall, given_up)

    try:
        for _ in remotes:
            file = tempfile.TemporaryFile(dir=near)  # noqa: SIM115 - cleanup closes it
            files.append(cleanup.enter_context(file))
        # The thread limits the total time, which a socket timeout does not if a server sends its
        # answer byte by byte.
        _bounded(fetch, limits.total)
    except (OSError, HTTPException, ValueError) as error:
        raise Unavailable(f"the download of {remotes[0].url} failed: {_reason(error)}") from None
    finally:
        given_up.set()
    return files


def _fetch(remote: Remote, file: IO[bytes], stall: float, given_up: threading.Event) -> None:
    digest, size = hashlib.sha256(), 0
    # Not the shared opener, which caches the proxies of its first use.
    with urllib.request.build_opener().open(remote.url, timeout=stall) as response:
        while block := response.read1(_BLOCK):
            size += len(block)
            if given_up.is_set():
                return
            if size > remote.size:
                break
            digest.update(block)
            file.write(block)
    if size < remote.size:
        raise OSError(f"it broke off after {size:,} of {remote.size:,} bytes")
    if digest.hexdigest() != remote.sha256:
        raise OSError("the downloaded file is not the published one (its checksum differs)")
    file.flush()
    file.seek(0)


def _keep(remote: Remote, file: IO[bytes]) -> None:
    """Copy a verified file into the cache, if the cache is writable."""
    target = cache_dir() / remote.places[0]
    aside = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as copy:
                shutil.copyfileobj(file, copy, _BLOCK)
            os.replace(aside, target)
        finally:
            aside.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("%s cannot be saved in the cache: %s", target.name, error)
    file.seek(0)


def _bounded(work: Callable[[], T], seconds: float) -> T:
    """Run `work` for at most `seconds`, including name lookups."""
    done: list[T] = []
    failed: list[Exception] = []

    def run() -> None:
        try:
            done.append(work())
        except Exception as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return done[0]


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        error = error.reason if isinstance(error.reason, Exception) else error
    if isinstance(error, socket.gaierror):
        return "host name not found"
    return str(error) or type(error).__name__
