"""The description is complete: every route is in it, and nothing else; and it is valid OpenAPI 3.1."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from support.in_process import broker_in_process
from support.rest import Rest

from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.http.app import build_app
from leveret.adapters.http.management.area import table
from leveret.adapters.http.openapi.document import described, document, operations


@pytest.fixture
async def app() -> AsyncIterator[web.Application]:
    """Of a broker that runs; what is in it is looked at, and not served."""
    async with broker_in_process(adapter=HttpAdapter) as listener:
        adapter: Any = listener.adapter
        yield build_app(adapter.context)


def listed(app: web.Application) -> set[str]:
    return {f"{method} {path}" for method, path, _ in operations(app)}


async def test_every_route_is_described_and_nothing_else(app: web.Application) -> None:
    made = document(app)
    found = {f"{method} {path}" for path, item in made["paths"].items() for method in item}
    assert found == listed(app)
    assert {f"{row.method.lower()} /api{row.path}" for row in table()} <= found


async def test_tables_describe_routes_that_are_there(app: web.Application) -> None:
    assert set(described()) - listed(app) == set()


async def test_every_operation_says_what_it_does(app: web.Application) -> None:
    ids = []
    for path, item in document(app)["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], path
            assert not operation["summary"].startswith(method.upper()), f"{method} {path} has no docstring"
            ids.append(operation["operationId"])
            parts = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert all(f"{{{name}}}" in path for name in parts)
            assert path.count("{") == len(parts), path
            assert any(status.startswith("2") for status in operation["responses"]), path
    assert len(ids) == len(set(ids))


async def test_references_lead_somewhere(app: web.Application) -> None:
    made = document(app)

    def references(value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for one in value.values():
                yield from references(one)
        elif isinstance(value, list):
            for one in value:
                yield from references(one)

    for reference in set(references(made)):
        place = made
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


async def test_is_served_without_a_login() -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener, Rest(listener, None) as nobody:
        answers = [await nobody.call("GET", path) for path in ("/openapi.json", "/api/openapi.json")]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json == answers[1].json
    assert answers[0].json["openapi"] == "3.1.0"
