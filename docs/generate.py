"""Write every page that is made from the code: `python docs/generate.py`. With --check, name those that are not current."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import trio

from leveret.adapters.cli.reference import as_markdown as ctl_page
from leveret.adapters.http.openapi.reference import as_markdown as http_page
from leveret.adapters.listener import serve_all
from leveret.conf.load import load
from leveret.conf.reference import as_markdown as settings_page
from leveret.conf.reference import as_toml
from leveret.core.broker import Broker
from leveret.core.queue.arguments_reference import as_markdown as arguments_page
from leveret.core.registry import Registry
from leveret.core.store.memory import MemoryStore
from leveret.plugins.loader import declarations_of, load_registry

ROOT = Path(__file__).parents[1]


def pages() -> Iterator[tuple[Path, str]]:
    """Each generated file with the text that it must have."""
    registry = load_registry()
    owned = declarations_of(registry)
    yield ROOT / "conf" / "leveret.toml", as_toml(owned)
    yield ROOT / "docs" / "settings.md", settings_page(owned)
    yield ROOT / "docs" / "ctl.md", ctl_page()
    yield ROOT / "docs" / "queue-arguments.md", arguments_page()
    yield ROOT / "docs" / "http-api.md", http_page(trio.run(_openapi, registry))


async def _openapi(registry: Registry) -> Any:
    """The description that a broker in this process serves, on a free port."""
    declared = declarations_of(registry)
    ports = {row.key: "off" for row in declared.ports} | {"listeners.http": "0"}
    settings = load(None, {}, ports, declared)
    async with (
        Broker(settings, registry, MemoryStore()).running() as broker,
        trio.open_nursery() as nursery,
    ):
        broker.adapters = [registry.load("adapters", "http")(broker)]
        (listener,) = await nursery.start(serve_all, broker)
        url = f"http://127.0.0.1:{listener.port}/openapi.json"
        found = await trio.to_thread.run_sync(_fetch, url)
        nursery.cancel_scope.cancel()
    return found


def _fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


def main(arguments: list[str]) -> int:
    stale = [
        (path, text)
        for path, text in pages()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        if "--check" in arguments:
            print(f"{path.relative_to(ROOT)} is not current: run `python docs/generate.py`", file=sys.stderr)
        else:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
