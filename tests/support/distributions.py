"""Distributions that are not ours: a package and its metadata, as an installer leaves them on sys.path."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

__all__ = ["install"]


def install(
    monkeypatch: pytest.MonkeyPatch,
    site: Path,
    distribution: str,
    modules: Mapping[str, str],
    entry_points: str,
    version: str = "1.0",
) -> None:
    """For the rest of the test. modules: name to source; entry_points: as in entry_points.txt."""
    site.mkdir(exist_ok=True)
    for name, source in modules.items():
        (site / f"{name}.py").write_text(source, encoding="utf-8")
        monkeypatch.delitem(sys.modules, name, raising=False)
    metadata = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\nSummary: {distribution} does it\n"
    )
    (metadata / "entry_points.txt").write_text(entry_points)
    monkeypatch.syspath_prepend(str(site))
