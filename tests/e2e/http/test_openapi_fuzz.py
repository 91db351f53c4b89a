"""The API fuzzed by its own description: whatever is sent, no 5xx but those that are promised, and answers as described."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("it is our description")

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
LOGIN = ("fuzz", "fuzz")
HEADERS = {"Connection": "keep-alive"}
THINGS = {
    "vhost": "fuzz", "exchange": "x", "queue": "q", "name": "one", "user": "somebody", "source": "x", "kind": "q",
    "destination": "q", "props": "~", "policy": "p", "component": "webhook", "verb": "ack", "lease": "none",
}  # fmt: skip
"""Names of what is there, so that requests get further than to 404."""
STREAMS = ("/v1/queues/{vhost}/{queue}/events", "/v1/exchanges/{vhost}/{exchange}/events")
PROMISED = {501, 503, 504}
"""Only where they are described, and told by the body: status_code_conformance looks at that."""


WORKING: tuple[tuple[str, Any], ...] = (
    ("PUT /api/vhosts/{vhost} ? vhost=other", {"description": "d", "tags": ["a"]}),
    ("PUT /api/users/{user} ? user=other", {"tags": "monitoring", "password": "x"}),
    ("PUT /api/permissions/{vhost}/{user}", {"configure": "", "write": "", "read": ".*"}),
    ("PUT /api/topic-permissions/{vhost}/{user}", {"exchange": "x", "write": "^a", "read": "^b"}),
    ("PUT /api/exchanges/{vhost}/{exchange} ? exchange=y", {"type": "fanout", "durable": False}),
    ("PUT /api/queues/{vhost}/{queue} ? queue=r", {"durable": False, "arguments": {"x-max-length": 5}}),
    ("POST /api/bindings/{vhost}/e/{source}/{kind}/{destination}", {"routing_key": "a.b"}),
    ("GET /api/bindings/{vhost}/e/{source}/{kind}/{destination}", None),
    ("GET /api/bindings/{vhost}/e/{source}/{kind}/{destination}/{props} ? props=a.b", None),
    ("PUT /api/policies/{vhost}/{policy}", {"pattern": "^r", "definition": {"max-length": 3}, "apply-to": "queues"}),
    ("PUT /api/operator-policies/{vhost}/{policy}", {"pattern": "^r", "definition": {"max-length": 3}}),
    ("GET /api/operator-policies/{vhost}/{policy}", None),
    ("PUT /api/vhost-limits/{vhost}/{name} ? name=max-queues", {"value": 100}),
    ("PUT /api/user-limits/{user}/{name} ? name=max-channels", {"value": 10}),
    ("PUT /api/parameters/{component}/{vhost}/{name} ? name=two", {"value": {"url": "https://leveret.invalid", "queue": "q",
        "enabled": False}}),
    ("GET /api/parameters/{component}/{vhost}/{name}", None),
    ("PUT /api/global-parameters/{name}", {"value": [1]}),
    ("PUT /api/cluster-name", {"name": "fuzzed"}),
    ("POST /api/exchanges/{vhost}/{exchange}/publish", {"routing_key": "q", "properties": {"priority": 1}, "payload": "p",
        "payload_encoding": "string"}),
    ("POST /api/queues/{vhost}/{queue}/get", {"ackmode": "ack_requeue_true", "count": 2, "encoding": "auto"}),
    ("GET /api/nodes/{node}", None), ("GET /api/nodes/{node}/memory", None), ("GET /api/auth/attempts/{node}", None),
    ("GET /api/queues/{vhost}/{queue}", None), ("GET /api/exchanges/{vhost}/{exchange}", None),
    ("GET /api/queues/{vhost} ? page=1&page_size=1&name=q&sort=name", None), ("GET /api/definitions/{vhost}", None),
    ("GET /api/vhosts/{vhost}", None), ("GET /api/users/{user}", None), ("GET /api/policies/{vhost}/{policy}", None),
    ("GET /api/health/checks/certificate-expiration/{within}/{unit} ? within=1&unit=weeks", None),
    ("GET /api/health/checks/protocol-listener/{protocol} ? protocol=amqp", None),
    ("POST /v1/exchanges/{vhost}/{exchange}/messages ? routing_key=a.b", {"n": 1}),
    ("POST /v1/queues/{vhost}/{queue}/messages", {"n": 1}),
    ("POST /v1/queues/{vhost}/{queue}/messages/batch", [{"payload": "x"}, {"payload": 7}]),
    ("POST /v1/queues/{vhost}/{queue}/receive ? max=2", None),
    ("POST /v1/queues/{vhost}/{queue}/receive ? format=raw&ack=auto", None),
    ("POST /v1/leases/{verb}", {"leases": ["no", "such"]}),
    ("PUT /v1/webhooks/{vhost}/{name} ? name=three", {"url": "https://leveret.invalid/", "queue": "q", "enabled": False}),
    ("GET /v1/webhooks/{vhost}/{name}", None), ("GET /v1/webhooks/{vhost}", None),
    ("PATCH /v1/webhooks/{vhost}/{name}", {"timeout_s": 3}), ("POST /v1/webhooks/{vhost}/{name}/disable", None),
    ("POST /v1/webhooks/{vhost}/{name}/rotate-secret", {"keep_s": 1}), ("POST /v1/webhooks/{vhost}/{name}/test", {}),
    ("GET /v1/webhooks/{vhost}/{name}/attempts", None), ("GET /v1/webhooks/{vhost}/{name}/dead-letters", None),
    ("POST /v1/webhooks/{vhost}/{name}/replay", {"all": True}),
    ("PUT /v1/webhook-sources/{vhost}/{name}", {"exchange": "x", "routing_key": "a.b",
        "verification": {"type": "none"}}),
    ("GET /v1/webhook-sources/{vhost}/{name}", None), ("GET /v1/webhook-sources/{vhost}", None),
    ("POST /hooks/{vhost}/{name}", {"hello": 1}), ("OPTIONS /hooks/{vhost}/{name}", None),
    ("GET /metrics/detailed ? family=queue_metrics", None),
    ("DELETE /v1/webhook-sources/{vhost}/{name}", None),
    ("DELETE /api/policies/{vhost}/{policy}", None), ("DELETE /api/queues/{vhost}/{queue}/contents", None),
    ("DELETE /api/queues/{vhost}/{queue} ? queue=r", None), ("DELETE /api/vhosts/{vhost} ? vhost=other", None),
)  # fmt: skip
"""Requests that must succeed: "METHOD /path ? parts and query", body."""


def furnish(base: str) -> None:
    """What THINGS names."""

    def call(method: str, path: str, body: Any) -> None:
        login = (
            ("guest", "guest")
            if path.startswith(("/api/vhosts", "/api/users", "/api/permissions"))
            else LOGIN
        )
        requests.request(method, base + path, json=body, auth=login, timeout=10).raise_for_status()

    for path, body in (
        ("/api/vhosts/fuzz", {}),
        ("/api/users/fuzz", {"password": "fuzz", "tags": "administrator"}),
        ("/api/users/somebody", {"password": "x", "tags": ""}),
        ("/api/permissions/fuzz/fuzz", {"configure": ".*", "write": ".*", "read": ".*"}),
        ("/api/permissions/fuzz/somebody", {"configure": ".*", "write": ".*", "read": ".*"}),
        ("/api/exchanges/fuzz/x", {"type": "topic"}),
        ("/api/queues/fuzz/q", {"durable": True}),
        ("/api/policies/fuzz/p", {"pattern": "^none", "definition": {"max-length": 1}}),
        ("/v1/webhooks/fuzz/one", {"url": "https://leveret.invalid/", "queue": "q", "enabled": False}),
    ):
        call("PUT", path, body)
    call("POST", "/api/bindings/fuzz/e/x/q/q", {})


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    # An endless series of odd logins must not lock us out, and no request may wait for long.
    with LeveretServer(tmp_path_factory.mktemp("fuzz") / "d") as server:
        base = f"http://127.0.0.1:{server.ports['http']}"
        furnish(base)
        yield base
        assert "Traceback" not in server.errors, server.errors[-3000:]


def operations(base: str) -> list[Any]:
    with urllib.request.urlopen(f"{base}/openapi.json") as answer:
        schema = schemathesis.openapi.from_dict(json.load(answer))
    found: list[Any] = [one.ok() for one in schema.get_all_operations()]  # type: ignore[union-attr]
    # What deletes comes last, what asks for the same thing first: requests should find something.
    return sorted(
        found, key=lambda one: (one.method == "delete", one.method not in ("post", "put"), one.label)
    )


def tame(case: Any) -> None:
    """It must not wait, and must not delete who we are."""
    query = case.query if isinstance(case.query, dict) else {}
    for name in ("wait", "timeout"):
        if name in query:
            query[name] = "0.05"
    if case.path.endswith("/requests"):
        case.query = {**query, "timeout": "0.05"}
    parts = case.path_parameters or {}
    if parts.get("user") == LOGIN[0] and case.method != "GET":
        parts["user"] = "somebody"


def check(base: str, case: Any) -> None:
    tame(case)
    response = case.call(base_url=base, auth=LOGIN, timeout=20, headers=HEADERS)
    excluded = [not_a_server_error] if response.status_code in PROMISED else []
    case.validate_response(response, checks=[one for one in CHECKS if one not in excluded])


def fuzz(base: str, examples: int, modes: tuple[GenerationMode, ...]) -> list[str]:
    """Every operation, with names that are there and with any. What went wrong, in words."""
    failures = []
    for operation in operations(base):
        names = {name: value for name, value in THINGS.items() if f"{{{name}}}" in operation.path}
        for mode in modes:
            kinds = [operation.as_strategy(generation_mode=mode)]
            is_deleting = operation.method == "delete" or operation.path.endswith("bulk-delete")
            if (
                names
                and not is_deleting
                and operation.path not in STREAMS
                and mode is GenerationMode.POSITIVE
            ):
                kinds.append(operation.as_strategy(generation_mode=mode, path_parameters=names))

            @seed(20260101)
            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=st.one_of(kinds))
            def run(case: Any) -> None:
                check(base, case)

            try:
                run()
            except Unsatisfiable:  # it takes nothing that could be wrong
                continue
            except Exception as error:  # noqa: BLE001  # every operation has its turn
                failures.append(
                    f"{operation.label} ({mode.value}): {error!r} {getattr(error, 'exceptions', '')}"
                )
    return failures


def test_description_says_what_answers_are(listener: str) -> None:
    failures = fuzz(listener, 2, (GenerationMode.POSITIVE,))
    assert not failures, "\n\n".join(failures)


def test_requests_that_work_are_answered_as_described(listener: str) -> None:
    found = {one.label: one for one in operations(listener)}
    node = requests.get(f"{listener}/api/overview", auth=LOGIN, timeout=10).json()["node"]
    done = set()
    for line, body in WORKING:
        label, _, rest = line.partition(" ? ")
        parts = {name: value for name, value in (THINGS | {"node": node}).items() if f"{{{name}}}" in label}
        pairs = [pair.partition("=")[::2] for pair in rest.split("&")] if rest else []
        parts |= {name: value for name, value in pairs if f"{{{name}}}" in label}
        query = {name: value for name, value in pairs if f"{{{name}}}" not in label}
        operation = found[label]
        given = {} if body is None else {"body": body, "media_type": "application/json"}
        case = operation.Case(path_parameters=parts, query=query, headers={}, **given)
        response = case.call(base_url=listener, auth=LOGIN, timeout=20)
        assert response.status_code < 300, (line, response.status_code, response.content)
        case.validate_response(response, checks=CHECKS)
        done.add(label)
    plain = {label for label, one in found.items() if label.startswith("GET ") and "{" not in one.path}
    for label in sorted(plain - done):
        case = found[label].Case()
        response = case.call(base_url=listener, auth=LOGIN, timeout=20)
        assert response.status_code == 200, (label, response.content)
        case.validate_response(response, checks=CHECKS)


@pytest.mark.long
def test_description_says_what_answers_are_at_length(listener: str) -> None:
    failures = fuzz(listener, 40, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE))
    assert not failures, "\n\n".join(failures)
