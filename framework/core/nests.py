"""The leaves of a nest, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def named_leaves(nest: Any, alone: str) -> list[tuple[str, Any]]:
    """Return the leaves of a nest by their place, in the order in which it is written down.

    Example:
        >>> named_leaves({"mean": 1, "boxes": (2, 3)}, "predictions")
        [('mean', 1), ('boxes/0', 2), ('boxes/1', 3)]
        >>> named_leaves(4, "predictions")
        [('predictions', 4)]

    Args:
        nest: Dicts, tuples and lists of leaves.
        alone: The name of a nest that is a single leaf.
    """
    return _leaves(nest, "") if isinstance(nest, (Mapping, tuple, list)) else [(alone, nest)]


def _leaves(node: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(node, Mapping):
        children = [(str(key), value) for key, value in node.items()]
    elif isinstance(node, (tuple, list)):
        children = [(str(i), value) for i, value in enumerate(node)]
    else:
        return [(name, node)]
    return [
        leaf for key, value in children for leaf in _leaves(value, f"{name}/{key}" if name else key)
    ]
