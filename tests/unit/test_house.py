"""The house is as docs/design.md promises: small files, shallow functions, names of one meaning."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = next(p for p in Path(__file__).parents if (p / "pyproject.toml").is_file())
FILES = sorted((ROOT / "framework").rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
OF_LIBRARIES = ("keras.src", "tensorflow.python", "tensorflow.core", "hydra._internal")


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_a_file_can_be_read_at_once(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 350
    long = {node.name: size(node) for node in functions(text) if size(node) > 50}
    assert long == {}


def functions(text: str) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            yield node


def size(function: ast.FunctionDef) -> int:
    """The lines of a function's body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_two_files_share_a_stem() -> None:
    stems = Counter(path.stem for path in FILES)
    assert [stem for stem, count in stems.items() if count > 1] == ["__init__", "__main__"]


def private(path: Path) -> Iterator[str]:
    """What a file touches of others' private names; of its own classes it may touch anything."""
    tree = ast.parse(path.read_text())
    own = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and is_self(n.value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(OF_LIBRARIES):
            yield str(node.module)
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("tf.__internal__"):
            yield "tf.__internal__"
        foreign = isinstance(node, ast.Attribute) and not is_self(node.value)
        if foreign and node.attr not in own and node.attr[0] == "_" != node.attr[1]:
            yield ast.unparse(node)


def is_self(node: ast.expr) -> bool:
    called = isinstance(node, ast.Call) and ast.unparse(node.func) == "super"
    return called or (isinstance(node, ast.Name) and node.id in ("self", "cls"))


def test_private_names_of_others_are_in_one_file() -> None:
    found = {
        f"{name}: {what}"
        for path, name in zip(FILES, NAMES, strict=True)
        if path.name != "compat.py"
        for what in private(path)
    }
    assert found <= {"framework/callbacks/made_with.py: callback._options"}
