"""The five links that make the directories at the root import as leveret.core, leveret.adapters, ..."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "leveret"
FOLDERS = ("adapters", "auth", "conf", "core", "plugins")


@pytest.mark.parametrize("name", FOLDERS)
def test_folder_is_linked_into_the_package(name: str) -> None:
    link = PACKAGE / name
    assert link.is_symlink(), f"{link} must be a link: check out with symbolic links enabled"
    assert str(link.readlink()) == f"../../{name}"
    assert (link / "__init__.py").is_file()


def test_nothing_else_is_in_the_package() -> None:
    files = {path.name for path in PACKAGE.iterdir()} - {"__pycache__"}
    assert files == {*FOLDERS, "__init__.py", "__main__.py", "py.typed", "serve.py", "server.py"}
