"""Every error has a way out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import framework
from framework import UserError


def test_every_error_that_is_raised_has_a_fix() -> None:
    bare = []
    for path in Path(framework.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            name = getattr(getattr(node, "func", None), "id", "")
            if isinstance(node, ast.Call) and name in ("UserError", "TrainingFailed"):
                given = {word.arg: word.value for word in node.keywords}
                fix = given.get("fix")
                if fix is None or (isinstance(fix, ast.Constant) and not fix.value):
                    bare.append(f"{path.name}:{node.lineno}")
    assert bare == []
    with pytest.raises(TypeError, match="fix"):
        UserError("no way out")  # type: ignore[call-arg]
