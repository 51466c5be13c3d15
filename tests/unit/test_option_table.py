"""The table of trainer options in docs/command_line.md is what framework/config.py declares.

To write it anew after an option has changed:

    python tests/unit/test_option_table.py
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from framework.config import TrainerConfig

ROOT = next(p for p in Path(__file__).parents if (p / "pyproject.toml").is_file())
PAGE = ROOT / "docs" / "command_line.md"
BEGIN, END = "<!-- trainer options -->\n", "<!-- /trainer options -->\n"


def option_table() -> str:
    """Return the table, built from the fields of `TrainerConfig`."""
    lines = ["| option | default | |", "| --- | --- | --- |"]
    for each in fields(TrainerConfig):
        text = each.metadata["help"].replace("|", "\\|")
        lines.append(f"| `trainer.{each.name}` | `{in_yaml(each.default)}` | {text} |")
    return "\n".join(lines) + "\n"


def in_yaml(value: Any) -> str:
    """Return a default as one writes it on the command line."""
    words = {None: "null", True: "true", False: "false"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def rewritten(page: str) -> str:
    """Return the page with the present table between the two markers."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + option_table() + END + after


def test_the_page_has_both_markers_once() -> None:
    text = PAGE.read_text()
    assert (text.count(BEGIN), text.count(END)) == (1, 1)


def test_the_table_is_built_from_the_fields() -> None:
    text = PAGE.read_text()
    assert text == rewritten(text), "run: python tests/unit/test_option_table.py"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
