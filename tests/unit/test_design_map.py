"""The map in docs/design.md is the tree of framework/."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = next(p for p in Path(__file__).parents if (p / "pyproject.toml").is_file())
PAGE = ROOT / "docs" / "design.md"


def mapped(page: str) -> list[tuple[str, str]]:
    """Return the paths of the block that begins with `framework/`, each with its purpose."""
    (block,) = re.findall(r"^```\n(framework/\n.*?)^```", page, re.DOTALL | re.MULTILINE)
    found, folders = [], list[str]()
    for line in block.splitlines():
        match = re.fullmatch(r"((?:  )*)(\S+)\s*(.*)", line)
        assert match, line
        depth, name, purpose = len(match[1]) // 2, match[2], match[3]
        assert depth <= len(folders), f"{name} is indented too far"
        del folders[depth:]
        found.append(("".join(folders) + name, purpose))
        if name.endswith("/"):
            folders.append(name)
    return found


def tree() -> set[str]:
    files = [p.relative_to(ROOT) for p in (ROOT / "framework").rglob("*.py")]
    files = [p for p in files if "__pycache__" not in p.parts]
    folders = {f"{folder.as_posix()}/" for p in files for folder in p.parents if folder.parts}
    return folders | {p.as_posix() for p in files if p.name != "__init__.py"}


def test_the_map_names_every_file_and_folder_once_and_nothing_else() -> None:
    paths = [path for path, _ in mapped(PAGE.read_text())]
    assert sorted(paths) == sorted(tree())


def test_the_map_gives_every_file_and_folder_a_purpose_of_one_line() -> None:
    without = [path for path, purpose in mapped(PAGE.read_text())[1:] if not purpose]
    assert without == []


def test_paths_that_the_page_names_exist() -> None:
    text = PAGE.read_text()
    named = set(re.findall(r"`((?:[a-z_]+/)+[a-z_]+\.py)`", text))
    assert named, "the walks name files"
    missing = {name for name in named if not (ROOT / "framework" / name).is_file()}
    assert missing == set()
