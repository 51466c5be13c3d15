"""References to the environment are found wherever they are."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from framework.cli.env_references import find_references


def test_references_are_found_wherever_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A", "1")
    config = OmegaConf.create(
        {"a": "${oc.env:A}", "b": {"c": ["x${a}", "${plain}"], "d": "${b.c}"}, "plain": "p",
         "e": "${b}", "f": "${plain}", "g": "${oc.select:a}", "n": None, "m": {}}
    )  # fmt: skip
    found = find_references(config)
    assert set(found.written) == {("a",), ("b", "c", 0), ("b", "d"), ("e",), ("g",)}
    assert found.variables == {"A": "1"}
    resolved = OmegaConf.to_container(config, resolve=True)
    written = found.put_into(resolved)  # type: ignore[arg-type]
    assert written["b"] == {"c": ["x${a}", "p"], "d": "${b.c}"}
