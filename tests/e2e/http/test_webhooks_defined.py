"""Webhooks by configuration: a file of definitions has subscriptions and sources in it, as the API has."""

from __future__ import annotations

import hashlib
import hmac
import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook
from support.hook_receiver import HookReceiver
from support.hooks_api import HooksApi
from support.server import LeveretServer

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIG = """
[server]
load_definitions = "{file}"

[plugins.webhooks]
allowed_networks = ["127.0.0.0/8"]
"""


def definitions(url: str) -> dict[str, Any]:
    """What GitHub sends goes out again, with Standard Webhooks' signature."""
    return {
        "vhosts": [{"name": "/"}],
        "exchanges": [
            {"name": "hooks", "vhost": "/", "type": "topic", "durable": True, "auto_delete": False, "arguments": {}}
        ],
        "parameters": [
            {
                "vhost": "/", "component": "webhook-source", "name": "gh",
                "value": {
                    "exchange": "hooks", "routing_key": "gh.{header:X-GitHub-Event}",
                    "verification": {"type": "github", "secrets": ["hush"]},
                },
            },
            {
                "vhost": "/", "component": "webhook", "name": "w",
                "value": {"exchange": "hooks", "routing_key": "gh.#", "url": url, "secrets": [SECRET]},
            },
        ],
    }  # fmt: skip


def send(server: LeveretServer, body: bytes) -> None:
    signature = hmac.new(b"hush", body, hashlib.sha256).hexdigest()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.ports['http']}/hooks/%2F/gh", data=body, method="POST",
        headers={
            "X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Delivery": hashlib.md5(body).hexdigest(),
            "X-GitHub-Event": "push", "Content-Type": "application/json",
        },
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert json.loads(answer.read()) == {"stored": True}


def test_a_file_of_definitions_has_webhooks_in_it(
    server: Callable[..., LeveretServer], tmp_path: Path
) -> None:
    with HookReceiver() as receiver:
        file, config = tmp_path / "definitions.json", tmp_path / "leveret.toml"
        file.write_text(json.dumps(definitions(receiver.url)))
        config.write_text(CONFIG.format(file=file))
        one = server(arguments=["--config", str(config)])
        send(one, b'{"n": 1}')
        (request,) = receiver.wait(1)
        assert Webhook(SECRET).verify(request.body, request.headers) == {"n": 1}
        api = HooksApi(one)
        assert api.hook("GET")["subscription"]["secrets"] == ["********"]
        assert api.call("GET", "/v1/webhook-sources/%2F/gh")[1]["verification"]["secrets"] == ["********"]
        one.stop()  # and again at every start: nothing is there twice
        one.start()
        send(one, b'{"n": 2}')
        assert receiver.wait(2)[1].body == b'{"n": 2}'
        assert len(api.call("GET", "/v1/webhooks")[1]) == 1


def test_definitions_go_out_and_come_into_another_server(
    server: Callable[..., LeveretServer], tmp_path: Path
) -> None:
    """Their secrets with them, as users' password hashes: whoever may export everything may have them."""
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nallowed_networks = ["127.0.0.0/8"]\n')
    with HookReceiver() as receiver:
        one, two = server(arguments=["--config", str(config)]), server(arguments=["--config", str(config)])
        assert HooksApi(one).call("POST", "/api/definitions", definitions(receiver.url))[0] in (200, 204)
        status, exported = HooksApi(one).call("GET", "/api/definitions")
        assert status == 200
        assert HooksApi(two).call("POST", "/api/definitions", exported)[0] in (200, 204)
        send(two, b'{"n": 3}')
        (request,) = receiver.wait(1)
        assert Webhook(SECRET).verify(request.body, request.headers) == {"n": 3}
        status, answer = HooksApi(one).call("POST", "/api/definitions", {
            "parameters": [{"vhost": "/", "component": "webhook", "name": "x", "value": {"url": "http://10.0.0.1/", "queue": "q"}}]
        })  # fmt: skip
        assert status == 400, answer
        assert "which webhooks may not reach" in answer["reason"]
