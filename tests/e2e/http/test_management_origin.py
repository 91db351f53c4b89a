"""Pages of other sites may not change anything with a password that the browser remembers."""

from __future__ import annotations

import http.client
import json
from base64 import b64encode
from collections.abc import Iterator

import pytest
from support.management import Management
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("RabbitMQ 3.10 does what such pages ask")

ALLOWED = "https://console.example"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    directory = tmp_path_factory.mktemp("origin")
    config = directory / "leveret.toml"
    config.write_text(f'[http]\ncors_origins = ["{ALLOWED}"]\n')
    with LeveretServer(directory / "data", arguments=["--config", str(config)]) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture
def page(guarded: LeveretServer) -> Iterator[Management]:
    with Management(guarded.ports["http"]) as client:
        yield client


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},  # a file, a sandboxed frame
        {"Origin": "http://127.0.0.1:1"},  # another server of the same machine
        {"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://["},
        {"Origin": f"{ALLOWED}.evil.example"},
    ],
)
def test_foreign(page: Management, headers: dict[str, str]) -> None:
    for method, path, body in (
        ("PUT", "/queues/%2F/q", {"durable": True}),
        ("DELETE", "/vhosts/%2F", None),
        ("POST", "/definitions", {}),
        ("POST", "/login", None),
    ):
        answer = page.request(method, path, body, headers)
        assert (answer.status, answer.json["error"]) == (403, "cross_origin_request"), (method, path)
    assert page.get("/queues") == []
    # Reading is the browser's to refuse: without CORS headers it shows the page nothing.
    answer = page.request("GET", "/whoami", headers=headers)
    assert answer.status == 200
    assert "access-control-allow-origin" not in answer.headers


def test_allowed_own_and_programs(page: Management, guarded: LeveretServer) -> None:
    own = f"http://127.0.0.1:{guarded.ports['http']}"
    for headers in (
        {},
        {"Origin": own},
        {"Origin": own.upper()},
        {"Origin": ALLOWED, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "https://mq.example", "X-Forwarded-Host": "mq.example"},  # behind a proxy
        {"Origin": "https://mq.example", "Sec-Fetch-Site": "same-origin"},
    ):
        assert page.request("PUT", "/queues/%2F/q", {"durable": True}, headers).status in (201, 204)
    assert page.request("DELETE", "/queues/%2F/q").status == 204


def test_messages_of_foreign_pages(guarded: LeveretServer) -> None:
    """A form, or fetch without CORS, could post text."""
    login = {"Authorization": f"Basic {b64encode(b'guest:guest').decode()}", "Content-Type": "text/plain"}
    foreign = {"Origin": "http://evil.example"}
    connection = http.client.HTTPConnection("127.0.0.1", guarded.ports["http"], timeout=10)
    try:
        for path in ("/v1/queues/%2F/q/messages", "/v1/queues/%2F/q/receive", "/v1/webhooks/%2F/h"):
            connection.request("POST", path, b"message", login | foreign)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert (response.status, answer["error"]) == (403, "cross_origin_request"), path
        # Webhooks in are signed: who posts them does not matter.
        connection.request("POST", "/hooks/%2F/none", b"{}", foreign)
        response = connection.getresponse()
        response.read()
        assert response.status == 404
    finally:
        connection.close()
