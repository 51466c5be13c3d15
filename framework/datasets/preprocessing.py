"""What is done to raw data before the network, saved with a run and rebuilt without the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from framework.core.paths import local_path
from framework.core.safe_files import NotAFile, read_bytes, replacing
from framework.datasets.columns import Columns
from framework.datasets.image_files import ImageFiles
from framework.errors import UserError

FILE = "preprocessing.json"
_KINDS: dict[str, Any] = {"table": Columns, "images": ImageFiles}
_MOST = 2**28  # bytes


class Preprocessing(Protocol):
    """What is done to raw data before the network. It is small, and its state is JSON values."""

    def __call__(self, raw: Any) -> Any:
        """Return what the network gets for raw data."""

    def state(self) -> Mapping[str, Any]:
        """Return all that it consists of."""


def load_preprocessing(run: str | Path, *, where: str = "run_dir") -> Any:
    """Return what a run does to raw data before its network, without the data.

    Example:
        >>> prepare = load_preprocessing("runs/a")
        >>> model.predict(prepare({"age": [41], "city": ["Oslo"]}))      # a table
        >>> model.predict(prepare(["a.jpg", "b.jpg"]))                   # images

    Args:
        run: The run directory, or a path in it, such as that of a checkpoint.
        where: The option that names it, for messages.

    Returns:
        A `Columns` or an `ImageFiles`: a function of raw data.

    Raises:
        UserError: The run has none, or its file is damaged.
    """
    place = local_path(run, where)
    path = next((p / FILE for p in (place, *list(place.parents)[:2]) if (p / FILE).exists()), None)
    if path is None:
        raise UserError(
            f"there is no {FILE}",
            where=str(place),
            fix="Give the directory of a run with data=table or data=image_folder.",
        )
    return _of_file(path)


def saved_preprocessing(run: Path) -> Any:
    """Return what `load_preprocessing` returns, or None if the run has none."""
    return _of_file(run / FILE) if (run / FILE).exists() else None


def check_preprocessing(run: Path, now: Preprocessing | None) -> None:
    """Refuse data that are not prepared as a run has them, because its training rows differed."""
    path = run / FILE
    if now is None or not path.exists():
        return
    then, there = _read(path), json.loads(_written(now))
    if then != there:
        raise UserError(
            "the data would be prepared in another way than in the run: "
            f"{_first_difference(then, there)}",
            where=str(path),
            fix="Give the same training data; or, to evaluate on others, data.fitted=<the run>.",
        )


def save_preprocessing(run: Path, now: Preprocessing | None) -> None:
    """Write what is done to raw data into a run directory, whole or not at all."""
    if now is not None and not (run / FILE).exists():
        with replacing(run / FILE) as file:
            file.write(_written(now).encode())


def _written(now: Preprocessing) -> str:
    kind = next((name for name, known in _KINDS.items() if isinstance(now, known)), None)
    if kind is None:
        raise UserError(
            f"preprocessing is a {type(now).__name__}",
            where="Data(preprocessing=...)",
            fix="Give what table_data or image_folder made.",
        )
    return json.dumps({"kind": kind, "state": now.state()}, indent=1, allow_nan=False)


def _of_file(path: Path) -> Any:
    saved = _read(path)
    try:
        return _KINDS[saved["kind"]].of_state(saved["state"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, error) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_bytes(path, _MOST))
    except NotAFile as error:
        raise error.refused() from None
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path, error) from None
    if not isinstance(found, dict):
        raise _damaged(path, TypeError("it is not an object"))
    return found


def _damaged(path: Path, error: Exception) -> UserError:
    return UserError(
        f"{FILE} cannot be read: {str(error)[:200]}",
        where=str(path),
        fix="Copy it from another copy of the run, or train again.",
    )


def _first_difference(then: Any, now: Any, at: str = "") -> str:
    if isinstance(then, dict) and isinstance(now, dict):
        for key in (*then, *now):
            if then.get(key) != now.get(key):
                return _first_difference(then.get(key), now.get(key), f"{at}.{key}" if at else key)
    if isinstance(then, list) and isinstance(now, list) and len(then) == len(now):
        number = next(n for n, pair in enumerate(zip(then, now, strict=True)) if pair[0] != pair[1])
        return _first_difference(then[number], now[number], f"{at}[{number}]")
    return f"{at} was {str(then)[:60]}, and now is {str(now)[:60]}"
