"""Which checkpoints are kept."""

from __future__ import annotations

from typing import Any

from framework.checkpoint.retention import Retention


def test_what_is_kept() -> None:
    def manifest(step: int, value: float | None, permanent: bool = False) -> dict[str, Any]:
        judged = None if value is None else {"metric": "m", "value": value, "mode": "max"}
        return {"step": step, "judged": judged, "permanent": permanent}

    there = [manifest(1, 0.9), manifest(2, 0.1, True), manifest(3, 0.5), manifest(4, None)]
    assert Retention(last=1, best=1, mode="max").kept(there) == {1, 2, 4}
    assert Retention(last=2, best=2, mode="max").kept(there) == {1, 2, 3, 4}
    assert Retention(last=1, best=1, mode="min").kept(there) == {2, 4}
    assert Retention(last=1, best=0).kept(there) == {2, 4}
