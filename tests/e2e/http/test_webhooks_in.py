"""Webhooks in, end to end: real senders' libraries, our own webhooks out, kill -9."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json
import subprocess
import threading
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any

from standardwebhooks.webhooks import Webhook
from support.server import LeveretServer, poll

Start = Callable[..., LeveretServer]
LOGIN = "Basic " + b64encode(b"guest:guest").decode()
GITHUB = {"queue": "q", "verification": {"type": "github", "secrets": ["hush"]}}


def call(
    server: LeveretServer, method: str, path: str, value: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    body = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.ports['http']}{path}", data=body, headers=headers or {}, method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as response:
            content = response.read()
            return response.status, json.loads(content) if content else None
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def put(server: LeveretServer, name: str, **value: Any) -> Any:
    status, shown = call(server, "PUT", f"/v1/webhook-sources/%2F/{name}", value, {"Authorization": LOGIN})
    assert status == 201, shown
    return shown


def deliver(server: LeveretServer, number: int, secret: str = "hush") -> tuple[int, Any]:
    body = b'{"number":%d}' % number
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Delivery": f"d{number}"}
    return call(server, "POST", "/hooks/%2F/gh", body, headers)


def declare(server: LeveretServer) -> None:
    with server.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.goodbye()


def drain(server: LeveretServer) -> list[bytes]:
    with server.peer() as peer:
        found = peer.drain(1, "q")
        peer.goodbye()
    return found


def test_the_reference_library_signs_and_we_verify(server: Start) -> None:
    one = server()
    declare(one)
    [secret] = put(one, "sw", queue="q", verification={"type": "standard"})["verification"]["secrets"]
    now = datetime.datetime.now(datetime.UTC)
    body = '{"type":"ü"}'
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", now, body),
        "Content-Type": "application/json",
    }
    assert call(one, "POST", "/hooks/%2F/sw", body.encode(), headers) == (200, {"stored": True})
    assert call(one, "POST", "/hooks/%2F/sw", body.encode(), headers) == (
        200,
        {"stored": True, "duplicate": True},
    )
    status, problem = call(one, "POST", "/hooks/%2F/sw", body.encode() + b" ", headers)
    assert (status, problem["error"], problem["status"]) == (401, "unverified", 401)
    assert drain(one) == [body.encode()]
    assert secret not in one.errors


def test_curl_and_openssl_are_enough_to_send(server: Start, tmp_path: Path) -> None:
    one = server()
    declare(one)
    put(one, "gh", **GITHUB)
    payload = tmp_path / "payload.json"
    payload.write_bytes(b'{"zen": "Speak like a human."}\n')
    signed = subprocess.run(
        ["openssl", "dgst", "-sha256", "-hmac", "hush", "-r", str(payload)],
        capture_output=True,
        text=True,
        check=True,
    )
    done = subprocess.run(
        [
            "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--data-binary", f"@{payload}",
            "-H", f"X-Hub-Signature-256: sha256={signed.stdout.split()[0]}", "-H", "Expect: 100-continue",
            f"http://127.0.0.1:{one.ports['http']}/hooks/%2f/gh",
        ],
        capture_output=True, text=True, check=True, timeout=15,
    )  # fmt: skip
    assert done.stdout == "200"
    assert drain(one) == [payload.read_bytes()]


def test_what_was_answered_survives_a_kill_and_is_known_again(server: Start) -> None:
    one = server()
    declare(one)
    put(one, "gh", **GITHUB)
    done: list[int] = []

    def sender(index: int) -> None:
        for number in range(index, 100_000, 8):
            try:
                if deliver(one, number) != (200, {"stored": True}):
                    return
            except OSError:
                return
            done.append(number)

    threads = [threading.Thread(target=sender, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    poll(lambda: len(done) >= 150, "delivered")
    one.kill()
    for thread in threads:
        thread.join()
    one.start()
    answered = list(done)
    for number in answered[::10] + answered[-8:]:
        assert deliver(one, number) == (200, {"stored": True, "duplicate": True})
    found = [json.loads(body)["number"] for body in drain(one)]
    assert len(found) == len(set(found))
    assert set(answered) <= set(found)
    for number in set(found) - set(answered):
        assert deliver(one, number) == (200, {"stored": True, "duplicate": True})


def test_our_own_webhooks_out_come_in(server: Start, tmp_path: Path) -> None:
    config = tmp_path / "leveret.toml"
    config.write_text('[plugins.webhooks]\nallowed_networks = ["127.0.0.0/8"]\n')
    one = server(arguments=["--config", str(config)])
    declare(one)
    login = {"Authorization": LOGIN}
    status, out = call(
        one, "PUT", "/v1/webhooks/%2F/out",
        {"url": f"http://127.0.0.1:{one.ports['http']}/hooks/%2F/in", "exchange": "amq.topic", "routing_key": "t.#"},
        login,
    )  # fmt: skip
    assert status == 201
    put(one, "in", queue="q", verification={"type": "standard", "secrets": out["secrets"]})
    for number in range(5):
        status, _ = call(
            one, "POST", "/v1/exchanges/%2F/amq.topic/messages?routing_key=t.x", b"%d" % number, login
        )
        assert status == 200
    statistics = poll(
        lambda: (
            (found := call(one, "GET", "/v1/webhook-sources/%2F/in", None, login)[1]["statistics"])[
                "received"
            ]
            == 5
            and found
        ),
        "received",
    )
    assert statistics == {"received": 5, "duplicates": 0, "refused": 0, "failed": 0}
    assert sorted(drain(one)) == [b"0", b"1", b"2", b"3", b"4"]
