"""The documentation: generated pages are current, links lead somewhere, and the built site loads nothing from other hosts."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")),
]
LOADED = {"script": "src", "img": "src", "iframe": "src", "link": "href", "source": "src"}
"""Elements whose addresses a browser loads by itself."""


def test_generated_pages_are_current() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "docs" / "generate.py"), "--check"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "bench/README.md"])
def test_links_beside_the_site_lead_to_files(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{name}: {target}"


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
)
def test_files_that_are_named_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    paths = re.findall(r"\b((?:adapters|auth|conf|core|plugins|src|tests)/[a-z_/0-9]+\.(?:py|toml))\b", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    named = set(re.findall(r"\b(test_[a-z_0-9]+\.py)\b", text))
    assert named - tests <= {"test_orders.py", "test_random_exchange.py", "test_census.py"}  # of examples


SECTIONS = "server|listeners|tls|websocket|store|limits|auth|log|amqp|http|mqtt|stomp"


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_are_named_exist(page: str) -> None:
    settings, section = set(), ""
    for line in (ROOT / "docs" / "settings.md").read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## \[(.*)\]", line):
            section = heading[1]
        elif row := re.match(r"\| `(\w+)` \|", line):
            settings.add(f"{section}.{row[1]}")
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(rf"`((?:{SECTIONS})\.[a-z_]+)(?= =|`)", text)
    assert set(named) - settings - {"server.py"} == set()


class Loads(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("rel") != "canonical" and tag in LOADED:
            self.addresses.append(given.get(LOADED[tag]) or "")


def test_the_site_is_strict_and_loads_nothing_from_other_hosts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("material") is None:
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("the extra `docs` is not installed")
    monkeypatch.setenv("NO_MKDOCS_2_WARNING", "1")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > 10
    for page in pages:
        loads = Loads()
        loads.feed(page.read_text(encoding="utf-8"))
        assert not [one for one in loads.addresses if re.match(r"(https?:)?//", one)], page.name
    for style in tmp_path.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style.name
