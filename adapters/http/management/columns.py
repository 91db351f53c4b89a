"""`columns=name,message_stats.publish_details.rate`: which members of objects a client wants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Tree", "columns_of", "cut"]

Tree = Mapping[str, Any]
"""Names, nested: {"message_stats": {"publish_details": {"rate": {}}}}; empty: all that is there."""


def columns_of(text: str) -> Tree | None:
    """None: all."""
    if not text:
        return None
    tree: dict[str, Any] = {}
    for path in text.split(","):
        branch = tree
        for name in path.split("."):
            branch = branch.setdefault(name, {})
    return tree


def cut(value: Any, tree: Tree) -> Any:
    """What the tree names of an object, or of each object in a list. Names that are not there are left out."""
    if not tree:
        return value
    if isinstance(value, list):
        return [cut(item, tree) for item in value]
    if isinstance(value, Mapping):
        return {name: cut(value[name], branch) for name, branch in tree.items() if name in value}
    return value
