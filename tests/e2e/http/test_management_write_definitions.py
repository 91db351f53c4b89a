"""Definitions over HTTP, by `leveret ctl` and at start: files of RabbitMQ 3.10 go in, and come out alike."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from support.management import Management
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs settings of its own")

FILE = Path(__file__).parents[2] / "data" / "definitions-3.10.json"
JSON = {"Content-Type": "application/json"}
SECTIONS = (
    "users", "vhosts", "permissions", "topic_permissions", "parameters", "policies", "queues", "exchanges", "bindings",
)  # fmt: skip


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    with LeveretServer(tmp_path_factory.mktemp("definitions") / "data") as server:
        yield server
        assert "Traceback" not in server.errors, server.errors
        assert server.stop() == 0


@pytest.fixture
def api(started: LeveretServer) -> Iterator[Management]:
    with Management(started.ports["http"]) as api:
        yield api


def form(field: str, content: bytes) -> tuple[bytes, dict[str, str]]:
    """What a browser sends for an upload."""
    body = (
        b'------W\r\nContent-Disposition: form-data; name="%s"; filename="d.json"\r\nContent-Type: application/json\r\n'
        b"\r\n%s\r\n------W--\r\n" % (field.encode(), content)
    )
    return body, {"Content-Type": "multipart/form-data; boundary=----W"}


def alike(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Every object of theirs is among ours, and nothing else (members that 3.10 does not have left out)."""
    for section in SECTIONS:
        known = set().union(*theirs[section])
        shown = [{key: value for key, value in item.items() if key in known} for item in ours[section]]
        assert {json.dumps(item, sort_keys=True) for item in shown} == {
            json.dumps(item, sort_keys=True) for item in theirs[section]
        }, section


def test_a_file_of_rabbitmq(api: Management, started: LeveretServer) -> None:
    theirs = json.loads(FILE.read_text())
    answer = api.request("POST", "/definitions", FILE.read_bytes(), JSON)
    assert (answer.status, answer.body) == (204, b"")
    alike(api.get("/definitions"), theirs)
    alike(api.get("/all-configuration"), theirs)
    # The users are those of the file, and their passwords hold.
    for name in ("hash-256", "hash-512"):
        with Management(started.ports["http"], name, "test12") as own:
            assert own.get("/whoami")["name"] == name
    for password, reason in (("test12", "Not management user"), ("wrong", "Login failed")):
        with Management(started.ports["http"], "hash-md5", password) as own:
            assert own.request("GET", "/whoami").json["reason"] == reason
    # guest is the file's guest, who had the same password there.
    parameters = pika.ConnectionParameters("127.0.0.1", started.port, "shop")
    connection = pika.BlockingConnection(parameters)
    channel = connection.channel()
    channel.queue_declare("all", durable=True, passive=True)
    channel.basic_publish("orders", "order", b"m", pika.BasicProperties(delivery_mode=2))
    assert channel.queue_declare("plain", passive=True).method.message_count == 1
    connection.close()
    # Again, and our own: nothing changes.
    before = api.get("/definitions")
    for document in (theirs, before):
        assert api.request("POST", "/definitions", document, JSON).status == 204
    assert api.get("/definitions") == before
    assert api.get("/queues/shop/plain")["messages"] == 1


def test_uploads_and_downloads(api: Management) -> None:
    body, headers = form("file", b'{"vhosts": [{"name": "uploaded"}]}')
    assert api.request("POST", "/definitions", body, headers).status == 204
    assert api.get("/permissions/uploaded/guest")["configure"] == ".*"
    for content, field in ((b"{}", "other"), (b"{", "file"), (b"[]", "file")):
        body, headers = form(field, content)
        answer = api.request("POST", "/definitions", body, headers)
        assert (answer.status, answer.json["reason"]) == (400, "failed_to_parse_json")
    answer = api.request("GET", '/definitions?download=my"%0d%0afile.json')
    assert answer.headers["content-disposition"] == 'attachment; filename="my___file.json"'
    assert answer.json["rabbitmq_definition_format"] == "cluster"
    # A page of another origin can make a browser send these, with its password.
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        answer = api.request("POST", "/definitions", b"{}", {"Content-Type": kind})
        assert (answer.status, answer.json["error"]) == (415, "unsupported_media_type")
    assert api.request("DELETE", "/vhosts/uploaded").status == 204


def test_one_virtual_host(api: Management, name: str) -> None:
    for vhost in (f"{name}-a", f"{name}-b"):
        assert api.request("PUT", f"/vhosts/{vhost}").status == 201
    source, target = f"{name}-a", f"{name}-b"
    for path, body in (
        (f"/queues/{source}/q", {"durable": True, "arguments": {"x-max-length": 5, "f": 5.0}}),
        (f"/exchanges/{source}/x", {"type": "x-consistent-hash", "durable": True}),
        (f"/policies/{source}/p", {"pattern": "", "definition": {"message-ttl": 5000}}),
        (f"/vhost-limits/{source}/max-queues", {"value": 9}),
    ):
        assert api.request("PUT", path, body).status in (201, 204), path
    assert api.request("POST", f"/bindings/{source}/e/x/q/q", {"routing_key": "10"}).status == 201
    document = api.get(f"/definitions/{source}")
    assert document["original_vhost_name"] == source
    assert "vhost" not in document["queues"][0]
    assert api.request("POST", f"/definitions/{target}", document, JSON).status == 204
    copied = api.get(f"/definitions/{target}")
    for section in ("queues", "exchanges", "bindings", "policies", "parameters"):
        assert copied[section] == document[section]
        assert document[section], section
    answer = api.request("POST", "/definitions", document, JSON)
    assert answer.status == 400
    assert "vhost is missing" in answer.json["reason"]
    assert api.request("GET", "/definitions/nope").json == {
        "error": "bad_request",
        "reason": "vhost_not_found",
    }
    assert api.request("POST", "/definitions/nope", {}, JSON).json == {
        "error": "not_found",
        "reason": "vhost_not_found",
    }
    for vhost in (source, target):
        assert api.request("DELETE", f"/vhosts/{vhost}").status == 204


def test_a_mistake_changes_nothing(api: Management) -> None:
    document = {
        "vhosts": [{"name": "half"}],
        "queues": [
            {"vhost": "half", "name": "good", "durable": True, "auto_delete": False, "arguments": {}},
            {
                "vhost": "half",
                "name": "bad",
                "durable": True,
                "auto_delete": False,
                "arguments": {"x-max-length": "5"},
            },
        ],
    }
    answer = api.request("POST", "/definitions", document, JSON)
    assert answer.status == 400
    assert answer.json["reason"].startswith("queues[1] (half/bad): invalid arg 'x-max-length'")
    assert api.request("GET", "/vhosts/half").status == 404


def test_ctl(started: LeveretServer, api: Management, tmp_path: Path) -> None:
    exported = tmp_path / "exported.json"
    assert "Exporting" in started.ctl("export_definitions", str(exported))
    assert exported.stat().st_mode & 0o777 == 0o600
    assert json.loads(exported.read_text()) == api.get("/definitions")
    assert json.loads(started.ctl("export_definitions", "-")) == api.get("/definitions")
    document = {"queues": [{"vhost": "/", "name": "by-ctl", "durable": True, "type": "classic"}],
                "global_parameters": [{"name": "big", "value": "x" * 5_000_000}]}  # fmt: skip
    wanted = tmp_path / "wanted.json"
    wanted.write_text(json.dumps(document))
    assert "Imported 1 global_parameters, 1 queues" in started.ctl("import_definitions", str(wanted))
    assert api.get("/queues/%2F/by-ctl")["durable"] is True
    assert api.request("DELETE", "/queues/%2F/by-ctl").status == 204
    assert api.request("DELETE", "/global-parameters/big").status == 204

    def refused(text: str) -> tuple[int, str]:
        done = subprocess.run(
            [*started.ctl_command(), "import_definitions", "-"], input=text, capture_output=True, text=True, timeout=30,
            check=False,
        )  # fmt: skip
        return done.returncode, done.stderr

    status, text = refused('{"queues": [{"name": "q"}]}')
    assert status == 65
    assert "queues[0] (q): no_such_vhost" in text
    assert refused("{")[0] == refused("[]")[0] == refused('{"x": NaN}')[0] == 65


def test_definitions_at_start(tmp_path: Path) -> None:
    wanted, data = tmp_path / "wanted.json", tmp_path / "data"
    settings = {"LEVERET_SERVER_LOAD_DEFINITIONS": str(wanted)}
    with LeveretServer(data, settings) as server:  # it is not there yet
        assert "is not there" in server.errors
        server.stop()
    wanted.write_text("{")
    process = LeveretServer(tmp_path / "other", settings)
    with pytest.raises(AssertionError, match="is not JSON"), process:
        pass
    wanted.write_text(json.dumps({"queues": [{"vhost": "nope", "name": "q"}]}))
    with pytest.raises(AssertionError, match="no_such_vhost"), process:
        pass
    wanted.write_text(FILE.read_text().replace('"guest"', '"boss"'))
    with LeveretServer(tmp_path / "new", settings) as server:
        with Management(server.ports["http"], "boss", "guest") as api:
            alike(api.get("/definitions"), json.loads(wanted.read_text()))
            assert not [user for user in api.get("/users") if user["name"] == "guest"]
        # What is changed later and is not in the file stays; what is in it comes back.
        with Management(server.ports["http"], "boss", "guest") as api:
            assert api.request("PUT", "/queues/shop/later", {"durable": True}).status == 201
            assert api.request("DELETE", "/queues/shop/plain").status == 204
        server.restart()
        with Management(server.ports["http"], "boss", "guest") as api:
            names = {queue["name"] for queue in api.get("/queues/shop")}
            assert {"later", "plain"} <= names
