"""The description is complete: every route is in it, and nothing else; and it is valid OpenAPI 3.1."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from support.in_process import broker_in_process
from support.rest import Rest

from leveret.adapters.http.adapter import HttpAdapter
from leveret.adapters.http.app import build_app
from leveret.adapters.http.areas import Area
from leveret.adapters.http.management.area import table
from leveret.adapters.http.openapi.document import document
from leveret.adapters.http.openapi.management import OPENAPI


@pytest.fixture
async def areas() -> AsyncIterator[Sequence[Area]]:
    """All areas of a broker that runs."""
    async with broker_in_process(adapter=HttpAdapter) as listener:
        adapter: Any = listener.adapter
        yield adapter.context.areas


async def test_every_route_is_described_and_nothing_else(areas: Sequence[Area]) -> None:
    described = {
        f"{method.upper()} {re.sub('{[^}]*}', '{}', path)}"
        for path, item in document(areas)["paths"].items()
        for method in item
    }
    served = {
        f"{route.method} {re.sub('{[^}]*}', '{}', route.resource.canonical.replace('{rest}', ''))}"
        for route in build_app(areas[0].context, areas).router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    assert described == served
    assert {f"{row.method} {re.sub('{[^}]*}', '{}', f'/api{row.path}')}" for row in table()} <= described


async def test_every_row_of_openapi_belongs_to_a_route() -> None:
    assert set(OPENAPI) <= {f"{row.method.lower()} /api{row.path}" for row in table()}


async def test_every_operation_says_what_it_does(areas: Sequence[Area]) -> None:
    ids = []
    for path, item in document(areas)["paths"].items():
        for method, operation in item.items():
            assert operation["summary"], path
            assert not operation["summary"].startswith(method.upper()), f"{method} {path} has no docstring"
            ids.append(operation["operationId"])
            parts = {one["name"] for one in operation.get("parameters", []) if one["in"] == "path"}
            assert all(f"{{{name}}}" in path for name in parts)
            assert path.count("{") == len(parts), path
            assert any(status.startswith("2") for status in operation["responses"]), path
    assert len(ids) == len(set(ids))


async def test_references_lead_somewhere(areas: Sequence[Area]) -> None:
    made = document(areas)

    def references(value: Any) -> Any:
        if isinstance(value, dict):
            if isinstance(value.get("$ref"), str):
                yield value["$ref"]
            for one in value.values():
                yield from references(one)
        elif isinstance(value, list):
            for one in value:
                yield from references(one)

    found = set(references(made))
    assert found
    for reference in found:
        place = made
        for part in reference.removeprefix("#/").split("/"):
            place = place[part]


async def test_is_served_without_a_login() -> None:
    async with broker_in_process(adapter=HttpAdapter) as listener, Rest(listener, None) as nobody:
        answers = [await nobody.call("GET", path) for path in ("/openapi.json", "/api/openapi.json")]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json == answers[1].json
    assert answers[0].json["openapi"] == "3.1.0"
