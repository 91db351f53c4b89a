"""rabbitmqadmin of RabbitMQ 3.x, every subcommand of it, against a started server.

With LEVERET_TEST_REFERENCE and LEVERET_TEST_REFERENCE_HTTP (the port of /api) the same tests run against RabbitMQ, and
pass there, too (3.10.8).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest
from support.programs import program
from support.server import REFERENCE, LeveretServer, poll

INSTALLED = "/usr/lib/rabbitmq/lib/*/plugins/rabbitmq_management-*/priv/www/cli/rabbitmqadmin"
LISTED = {
    "connections": ["name", "user", "channels"],
    "channels": ["name", "user"],
    "consumers": ["consumer_tag", "ack_required", "activity_status"],
    "exchanges": ["name", "type"],
    "queues": ["name", "messages"],
    "bindings": ["source", "destination", "routing_key"],
    "users": ["name", "tags"],
    "vhosts": ["name", "messages"],
    "permissions": ["vhost", "user", "configure"],
    "nodes": ["name", "type", "mem_used"],
    "parameters": ["component", "value"],
    "policies": ["name", "definition", "apply-to"],
    "operator_policies": ["name", "definition", "apply-to"],
    "vhost_limits": ["vhost", "value"],
}
"""Everything it can list, with columns of its default table or some that must be there."""


def _find() -> str:
    """Where it is. Debian: in the package rabbitmq-server; .ci/run unpacks it without installing a server."""
    return program("rabbitmqadmin", "rabbitmq-server", at=next(map(str, Path("/").glob(INSTALLED[1:])), None))


class Admin:
    """The command, run as guest unless told otherwise."""

    def __init__(self, port: int, amqp_port: int) -> None:
        self.amqp_port = amqp_port
        self.port = port
        self._command = [sys.executable, "-W", "ignore", _find(), "-P", str(port)]

    def run(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._command, *arguments], input=stdin, capture_output=True, text=True, timeout=30, check=False
        )

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, (arguments, done.stdout, done.stderr)
        return done.stdout.strip()

    def refused(self, *arguments: str) -> str:
        """What it says when the server refuses."""
        done = self.run(*arguments)
        assert done.returncode == 1, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr, done.stderr
        return done.stderr.strip()

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = json.loads(self("-f", "raw_json", *arguments))
        return rows

    def row(self, what: str, name: str, *, key: str = "name") -> dict[str, Any] | None:
        return next((row for row in self.rows("list", what) if row[key] == name), None)


@pytest.fixture(scope="module")
def admin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Admin]:
    if REFERENCE:
        port = urlsplit(REFERENCE).port
        assert port is not None
        yield Admin(int(os.environ["LEVERET_TEST_REFERENCE_HTTP"]), port)
        return
    settings = {"LEVERET_HTTP_RATES_INTERVAL_S": "0.1"}
    with LeveretServer(tmp_path_factory.mktemp("rabbitmqadmin") / "data", settings) as server:
        yield Admin(server.ports["http"], server.port)
        assert server.stop() == 0, server.errors
        assert "Traceback" not in server.errors


@pytest.fixture
def name() -> str:
    return f"adm-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def vhost(admin: Admin) -> Iterator[str]:
    """A virtual host with a name that must be quoted, and permissions there. No space: it writes `+` for one in a path."""
    name = "with/and%"
    assert admin("declare", "vhost", f"name={name}") == "vhost declared"
    granted = admin(
        "declare", "permission", f"vhost={name}", "user=guest", "configure=.*", "write=.*", "read=.*"
    )
    assert granted == "permission declared"
    yield name
    assert admin("delete", "vhost", f"name={name}") == "vhost deleted"


@pytest.fixture(scope="module")
def objects(admin: Admin) -> Iterator[None]:
    """One of everything that can be listed."""
    parameters = pika.ConnectionParameters("127.0.0.1", admin.amqp_port, heartbeat=600)
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        for queue in ("listed1", "listed2"):
            channel.queue_declare(queue, durable=True)
        for number in range(3):
            channel.basic_publish("", "listed1", b"%d" % number)
        channel.basic_consume("listed2", lambda *_: None, consumer_tag="tag1")
        for kind in ("policy", "operator_policy"):
            admin("declare", kind, "name=listed", "pattern=^listed", 'definition={"max-length":9}')
        admin("declare", "vhost_limit", "vhost=/", "name=max-queues", "value=999")
        poll(lambda: admin.rows("list", "connections"), "the connection is listed")
        poll(lambda: admin.rows("list", "channels"), "the channel is listed")
        poll(lambda: "|    3" in admin("list", "queues") or "3 " in admin("list", "queues"), "3 messages")
        yield
        admin("delete", "vhost_limit", "vhost=/", "name=max-queues")
        for kind in ("policy", "operator_policy"):
            admin("delete", kind, "name=listed")
        for queue in ("listed1", "listed2"):
            channel.queue_delete(queue)


# -- list and show


@pytest.mark.parametrize("what", LISTED)
def test_list(admin: Admin, objects: None, what: str) -> None:
    columns = LISTED[what]
    table = admin("list", what).splitlines()
    header = [cell.strip() for cell in table[1].strip("|").split("|")]
    assert set(columns) <= set(header), table
    assert len(table) > 4  # a frame, names, a frame, rows, a frame
    chosen = admin("list", what, columns[0], columns[1]).splitlines()
    assert [cell.strip() for cell in chosen[1].strip("|").split("|")] == columns[:2]
    assert len(chosen) == len(table)
    everything = admin.rows("list", what)
    assert len(everything) == len(table) - 4
    assert all(columns[0] in row for row in everything)
    assert [list(row) for row in admin.rows("list", what, columns[0])] == [[columns[0]]] * len(everything)


@pytest.mark.parametrize("format", ["long", "kvp", "bash", "tsv", "pretty_json", "table"])
def test_formats(admin: Admin, objects: None, format: str) -> None:
    text = admin("-f", format, "-V", "/", "-S", "name", "list", "queues", "name", "type")
    match format:
        case "long":
            assert [line.split() for line in text.splitlines() if ":" in line] == [
                ["name:", "listed1"], ["type:", "classic"], ["name:", "listed2"], ["type:", "classic"],
            ]  # fmt: skip
        case "kvp":
            lines = [line.split() for line in text.splitlines()]
            assert lines == [[f'name="listed{n}"', 'type="classic"'] for n in (1, 2)]
        case "bash":
            assert text.split() == ["listed1", "listed2"]
        case "tsv":
            lines = [line.split("\t") for line in text.splitlines()]
            assert lines == [["name", "type"], ["listed1", "classic"], ["listed2", "classic"]]
        case "pretty_json":
            assert json.loads(text) == [{"name": f"listed{n}", "type": "classic"} for n in (1, 2)]
        case _:
            assert text.splitlines()[3].split() == ["|", "listed1", "|", "classic", "|"]


def test_sort_depth_and_columns(admin: Admin, objects: None) -> None:
    names = [row["name"] for row in admin.rows("-S", "name", "list", "queues", "name")]
    assert names == sorted(names)
    assert {"listed1", "listed2"} <= set(names)
    backwards = [row["name"] for row in admin.rows("--sort=name", "--sort-reverse", "list", "queues", "name")]
    assert backwards == names[::-1]
    by_number = admin.rows("-S", "messages", "-R", "list", "queues", "name", "messages")
    assert by_number[0] == {"name": "listed1", "messages": 3}
    assert "messages_details.rate" not in admin("-f", "long", "list", "queues")
    deep = admin("-f", "long", "-d", "2", "list", "queues")
    assert "messages_details.rate:" in deep
    assert "effective_policy_definition.max-length: 9" in deep
    nested = admin("list", "connections", "user", "client_properties.product")
    assert "Pika" in nested


def test_what_belongs_to_a_virtual_host(admin: Admin, objects: None, vhost: str, name: str) -> None:
    for what in ("queues", "consumers"):
        assert admin("-V", vhost, "list", what) == "No items"
        assert admin("-q", "-V", vhost, "list", what) == ""
    assert admin("-V", vhost, "declare", "queue", f"name={name}") == "queue declared"
    assert admin.rows("-V", vhost, "list", "queues", "name", "vhost") == [{"name": name, "vhost": vhost}]
    assert {row["vhost"] for row in admin.rows("list", "queues")} == {"/", vhost}
    assert [row["destination"] for row in admin.rows("-V", vhost, "list", "bindings")] == [name]
    assert {row["vhost"] for row in admin.rows("-V", vhost, "list", "exchanges")} == {vhost}
    assert admin("-V", vhost, "delete", "queue", f"name={name}") == "queue deleted"
    assert "Not found: /api/queues/nowhere" in admin.refused("-V", "nowhere", "list", "queues")


def test_show_overview(admin: Admin, objects: None) -> None:
    lines = admin("show", "overview").splitlines()
    names, values = ([cell.strip() for cell in lines[n].strip("|").split("|")] for n in (1, 3))
    row = dict(zip(names, values, strict=True))
    assert row.keys() == {
        "rabbitmq_version", "cluster_name", "queue_totals.messages", "object_totals.queues",
    }  # fmt: skip
    assert int(row["object_totals.queues"]) >= 2
    assert row["rabbitmq_version"].count(".") == 2
    (overview,) = admin.rows("show", "overview")
    assert {"node", "listeners", "exchange_types", "object_totals"} <= overview.keys()
    assert "object_totals.exchanges: " in admin("-f", "long", "-d", "2", "show", "overview")
    assert admin("-f", "tsv", "show", "overview", "cluster_name").splitlines()[0] == "cluster_name"


# -- declare and delete


def test_exchanges(admin: Admin, vhost: str, name: str) -> None:
    arguments = 'arguments={"alternate-exchange":"amq.fanout"}'
    declare = ("-V", vhost, "declare", "exchange", f"name={name}", "type=topic", "internal=true", arguments)
    assert admin(*declare) == "exchange declared"
    assert admin(*declare) == "exchange declared"
    row = admin.row("exchanges", name)
    assert row is not None
    assert {key: row[key] for key in ("vhost", "type", "durable", "auto_delete", "internal", "arguments")} == {
        "vhost": vhost, "type": "topic", "durable": True, "auto_delete": False, "internal": True,
        "arguments": {"alternate-exchange": "amq.fanout"},
    }  # fmt: skip
    unlike = admin.refused("-V", vhost, "declare", "exchange", f"name={name}", "type=direct")
    assert "inequivalent arg 'type'" in unlike
    assert admin("-V", vhost, "delete", "exchange", f"name={name}") == "exchange deleted"
    assert admin.row("exchanges", name) is None
    assert "Not found" in admin.refused("-V", vhost, "delete", "exchange", f"name={name}")
    assert "type" in admin.refused("declare", "exchange", f"name={name}", "type=unheard-of")


def test_queues(admin: Admin, name: str) -> None:
    assert admin("declare", "queue", f"name={name}", "durable=false", 'arguments={"x-max-length":5}')
    row = admin.row("queues", name)
    assert row is not None
    assert (row["durable"], row["auto_delete"], row["type"]) == (False, False, "classic")
    assert row["arguments"] | {"x-queue-type": "classic"} == {"x-max-length": 5, "x-queue-type": "classic"}
    assert "inequivalent arg 'durable'" in admin.refused("declare", "queue", f"name={name}")
    assert admin("delete", "queue", f"name={name}") == "queue deleted"
    node = admin.rows("list", "nodes", "name")[0]["name"]
    assert admin("declare", "queue", f"name={name}", "queue_type=quorum", f"node={node}") == "queue declared"
    row = admin.row("queues", name)
    assert row is not None
    assert (row["type"], row["arguments"]) == ("quorum", {"x-queue-type": "quorum"})
    assert admin("delete", "queue", f"name={name}") == "queue deleted"
    assert "Not found" in admin.refused("delete", "queue", f"name={name}")


def test_bindings(admin: Admin, name: str) -> None:
    for kind in ("queue", "exchange"):
        admin("declare", kind, f"name={name}", *(["type=fanout"] if kind == "exchange" else []))
    between = ("source=amq.topic", f"destination={name}")
    assert admin("declare", "binding", *between, "routing_key=a b/%.#") == "binding declared"
    assert admin("declare", "binding", *between, "routing_key=k", 'arguments={"n":1}') == "binding declared"
    assert admin("declare", "binding", *between) == "binding declared"
    assert admin("declare", "binding", *between, "destination_type=exchange", "routing_key=e")
    rows = [row for row in admin.rows("list", "bindings") if row["source"] == "amq.topic"]
    found = {(row["routing_key"], row["destination_type"]): row["properties_key"] for row in rows}
    assert found.keys() == {("a b/%.#", "queue"), ("k", "queue"), ("", "queue"), ("e", "exchange")}
    assert found["", "queue"] == "~"
    assert {row["destination"] for row in rows} == {name}
    delete = ("delete", "binding", *between)
    assert admin(*delete, "destination_type=queue") == "binding deleted"  # the one without a key: ~
    assert "Not found" in admin.refused(*delete, "destination_type=queue")
    for (_, kind), key in found.items():
        if key != "~":
            assert admin(*delete, f"destination_type={kind}", f"properties_key={key}") == "binding deleted"
    assert not [row for row in admin.rows("list", "bindings") if row["source"] == "amq.topic"]
    for kind in ("queue", "exchange"):
        admin("delete", kind, f"name={name}")
    assert "Not found" in admin.refused("declare", "binding", *between)


def test_virtual_hosts(admin: Admin, name: str) -> None:
    for tracing in ("true", "false"):
        assert admin("declare", "vhost", f"name={name}", f"tracing={tracing}") == "vhost declared"
        row = admin.row("vhosts", name)
        assert row is not None
        assert row["tracing"] is (tracing == "true")
    assert admin("delete", "vhost", f"name={name}") == "vhost deleted"
    assert admin.row("vhosts", name) is None
    assert "Not found" in admin.refused("delete", "vhost", f"name={name}")


def test_users_and_permissions(admin: Admin, vhost: str, name: str) -> None:
    declare = ("declare", "user", f"name={name}")
    assert admin(*declare, "password=secret", "tags=monitoring,policymaker") == "user declared"
    row = admin.row("users", name)
    assert row is not None
    assert row["tags"] == ["monitoring", "policymaker"]
    login = ("-u", name, "-p", "secret")
    assert admin(*login, "list", "nodes", "name")
    assert admin(*login, "list", "queues") == "No items"
    assert admin.refused(*login, "list", "users") == "*** Access refused: /api/users"
    grant = (f"vhost={vhost}", f"user={name}")
    assert admin("declare", "permission", *grant, "configure=", "write=w", "read=r") == "permission declared"
    row = admin.row("permissions", name, key="user")
    assert row == {"user": name, "vhost": vhost, "configure": "", "write": "w", "read": "r"}
    refused = admin.refused(*login, "-V", vhost, "declare", "queue", "name=q")
    assert "Access refused" in refused
    assert admin("delete", "permission", *grant) == "permission deleted"
    assert admin.row("permissions", name, key="user") is None
    assert admin.refused(*login, "-V", vhost, "list", "queues").startswith("*** Access refused")

    for size in (256, 512):
        salted = b"salt" + hashlib.new(f"sha{size}", b"salt" + b"other").digest()
        hashed, algorithm = base64.b64encode(salted).decode(), f"rabbit_password_hashing_sha{size}"
        given = (f"password_hash={hashed}", f"hashing_algorithm={algorithm}", "tags=management")
        assert admin(*declare, *given) == "user declared"
        row = admin.row("users", name)
        assert row is not None
        assert (row["password_hash"], row["hashing_algorithm"]) == (hashed, algorithm)
        assert admin("-u", name, "-p", "other", "list", "queues") == "No items"
    assert admin.refused(*login, "list", "queues") == "*** Access refused: /api/queues?columns=name,messages"
    assert admin("delete", "user", f"name={name}") == "user deleted"
    assert "Not found" in admin.refused("delete", "user", f"name={name}")


@pytest.mark.parametrize("kind", ["policy", "operator_policy"])
def test_policies(admin: Admin, name: str, kind: str) -> None:
    listed = {"policy": "policies", "operator_policy": "operator_policies"}[kind]
    declare = ("declare", kind, f"name={name}", "pattern=^never$")
    assert admin(*declare, 'definition={"max-length":4}', "priority=7", "apply-to=queues")
    assert admin.row(listed, name) == {
        "vhost": "/", "name": name, "pattern": "^never$", "apply-to": "queues", "priority": 7,
        "definition": {"max-length": 4},
    }  # fmt: skip
    assert admin(*declare, 'definition={"max-length":5}') == f"{kind} declared"
    row = admin.row(listed, name)
    assert row is not None
    assert (row["definition"], row["priority"]) == ({"max-length": 5}, 0)
    assert "Validation failed" in admin.refused(*declare, 'definition={"unheard-of":1}')
    assert admin("delete", kind, f"name={name}") == f"{kind} deleted"
    assert "Not found" in admin.refused("delete", kind, f"name={name}")


def test_parameters(admin: Admin, vhost: str, name: str) -> None:
    parameter = ("component=vhost-limits", "name=limits")
    assert admin("-V", vhost, "declare", "parameter", *parameter, 'value={"max-queues":3}')
    assert admin.row("parameters", vhost, key="vhost") == {
        "vhost": vhost, "component": "vhost-limits", "name": "limits", "value": {"max-queues": 3},
    }  # fmt: skip
    assert admin.row("vhost_limits", vhost, key="vhost") == {"vhost": vhost, "value": {"max-queues": 3}}
    assert admin("-V", vhost, "delete", "parameter", *parameter) == "parameter deleted"
    assert admin.row("parameters", vhost, key="vhost") is None
    assert "Not found" in admin.refused("-V", vhost, "delete", "parameter", *parameter)
    unknown = admin.refused("declare", "parameter", "component=unheard-of", f"name={name}", "value=1")
    assert "component unheard-of not found" in unknown


def test_limits_of_virtual_hosts(admin: Admin, vhost: str) -> None:
    for limit in ("max-connections", "max-queues"):
        assert admin("declare", "vhost_limit", f"vhost={vhost}", f"name={limit}", "value=1")
    assert admin.row("vhost_limits", vhost, key="vhost") == {
        "vhost": vhost, "value": {"max-connections": 1, "max-queues": 1},
    }  # fmt: skip
    assert admin("-V", vhost, "declare", "queue", "name=first") == "queue declared"
    refused = admin.refused("-V", vhost, "declare", "queue", "name=second")
    assert "queue limit in vhost" in refused
    admin("-V", vhost, "delete", "queue", "name=first")
    for limit in ("max-connections", "max-queues"):
        assert admin("delete", "vhost_limit", f"vhost={vhost}", f"name={limit}") == "vhost_limit deleted"
    assert admin.row("vhost_limits", vhost, key="vhost") in (
        None,
        {"vhost": vhost, "value": []},
    )  # 3.10: the latter


# -- messages


def test_publish_and_get(admin: Admin, name: str, tmp_path: Path) -> None:
    admin("declare", "queue", f"name={name}")
    publish = ("publish", f"routing_key={name}")
    properties = {
        "content_type": "text/plain",
        "headers": {"n": 1, "s": "x"},
        "delivery_mode": 2,
        "priority": 3,
    }
    assert admin(*publish, "payload=täst", f"properties={json.dumps(properties)}") == "Message published"
    assert admin(*publish, "exchange=amq.default", stdin="from\nstdin") == "Message published"
    raw = base64.b64encode(b"\xff\x00").decode()
    assert admin(*publish, f"payload={raw}", "payload_encoding=base64") == "Message published"
    assert admin("publish", "routing_key=nowhere", "payload=x") == "Message published but NOT routed"
    nowhere = admin.refused("publish", "exchange=nowhere", "routing_key=x", "payload=x")
    assert "404 NOT_FOUND - no exchange 'nowhere' in vhost '/'" in nowhere

    get = ("get", f"queue={name}")
    (first,) = admin.rows(*get)
    assert first == {
        "payload_bytes": 5, "redelivered": False, "exchange": "", "routing_key": name, "message_count": 2,
        "properties": properties, "payload": "täst", "payload_encoding": "string",
    }  # fmt: skip
    shown = admin(*get, "count=5", "ackmode=ack_requeue_true")
    assert "stdin" in shown
    assert raw in shown
    rows = admin.rows(*get, "count=5")
    assert [row["payload"] for row in rows] == ["täst", "from\nstdin", raw]
    assert [row["payload_encoding"] for row in rows] == ["string", "string", "base64"]
    assert [row["message_count"] for row in rows] == [2, 1, 0]
    assert all(row["redelivered"] for row in rows)
    assert admin.rows(*get, "encoding=base64")[0]["payload"] == base64.b64encode("täst".encode()).decode()

    target = tmp_path / "payload"
    admin(*get, f"payload_file={target}", "ackmode=ack_requeue_false")
    assert target.read_text(encoding="utf-8") == "täst"
    assert [row["payload"] for row in admin.rows(*get, "count=9", "ackmode=reject_requeue_true")] == [
        "from\nstdin", raw,
    ]  # fmt: skip
    assert len(admin.rows(*get, "ackmode=reject_requeue_false")) == 1
    assert admin("purge", "queue", f"name={name}") == "queue purged"
    assert admin(*get) == "No items"
    assert "Not found" in admin.refused("purge", "queue", "name=nowhere")
    assert "Not found" in admin.refused("get", "queue=nowhere")
    assert admin("delete", "queue", f"name={name}") == "queue deleted"


def test_close_connection(admin: Admin, name: str) -> None:
    parameters = pika.ConnectionParameters(
        "127.0.0.1", admin.amqp_port, heartbeat=600, client_properties={"connection_name": name}
    )
    connection = pika.BlockingConnection(parameters)
    try:

        def listed() -> str:
            rows = admin.rows("list", "connections", "name", "client_properties")
            mine = (row for row in rows if row.get("client_properties", {}).get("connection_name") == name)
            return next((str(row["name"]) for row in mine), "")

        found = poll(listed, "the connection is listed")
        assert admin("close", "connection", f"name={found}") == "connection closed"
        with pytest.raises(pika.exceptions.ConnectionClosed) as closed:
            connection.process_data_events(10)
        assert closed.value.args == (320, "CONNECTION_FORCED - Closed via management plugin")
        assert "Not found" in admin.refused("close", "connection", f"name={found}")
    finally:
        if connection.is_open:
            connection.close()


# -- definitions


def test_export_and_import(admin: Admin, vhost: str, name: str, tmp_path: Path) -> None:
    file, again = tmp_path / "all.json", tmp_path / "again.json"
    inside = ("-V", vhost)
    admin(*inside, "declare", "queue", f"name={name}", 'arguments={"x-max-length":5}')
    admin(*inside, "declare", "exchange", f"name={name}", "type=headers")
    admin(*inside, "declare", "binding", f"source={name}", f"destination={name}", 'arguments={"a":[1,"b"]}')
    admin(*inside, "declare", "policy", f"name={name}", "pattern=.", 'definition={"expires":90000}')
    assert admin("export", str(file)) == f'Exported definitions for localhost to "{file}"'
    document = json.loads(file.read_text(encoding="utf-8"))
    assert {
        "users",
        "vhosts",
        "permissions",
        "queues",
        "exchanges",
        "bindings",
        "policies",
    } <= document.keys()
    assert name in {queue["name"] for queue in document["queues"]}
    for kind in ("policy", "exchange", "queue"):
        admin(*inside, "delete", kind, f"name={name}")
    assert admin("import", str(file)).startswith("Uploaded definitions from")
    admin("export", str(again))
    assert _sorted(json.loads(again.read_text(encoding="utf-8"))) == _sorted(document)

    one = tmp_path / "one.json"
    admin(*inside, "export", str(one))
    document = json.loads(one.read_text(encoding="utf-8"))
    assert [queue["name"] for queue in document["queues"]] == [name]
    assert all("vhost" not in item for key in ("queues", "exchanges", "bindings") for item in document[key])
    other = f"{name}/copy"
    admin("declare", "vhost", f"name={other}")
    admin("declare", "permission", f"vhost={other}", "user=guest", "configure=.*", "write=.*", "read=.*")
    admin("-V", other, "import", str(one))
    assert [row["name"] for row in admin.rows("-V", other, "list", "queues", "name")] == [name]
    bindings = admin.rows("-V", other, "list", "bindings", "source", "arguments")
    assert {"source": name, "arguments": {"a": [1, "b"]}} in bindings
    admin("delete", "vhost", f"name={other}")
    one.write_text("{", encoding="utf-8")
    assert "failed_to_parse_json" in admin.refused("import", str(one))
    for kind in ("policy", "exchange", "queue"):
        admin(*inside, "delete", kind, f"name={name}")


def _sorted(document: dict[str, Any]) -> dict[str, Any]:
    return {
        key: sorted(value, key=lambda item: json.dumps(item, sort_keys=True))
        if isinstance(value, list)
        else value
        for key, value in document.items()
    }


# -- where and who


def test_configuration_files_and_addresses(admin: Admin, vhost: str, name: str, tmp_path: Path) -> None:
    config = tmp_path / "rabbitmqadmin.conf"
    config.write_text(
        f"[here]\nhostname = 127.0.0.1\nport = {admin.port}\nusername = guest\npassword = guest\n"
        f"declare_vhost = {vhost.replace('%', '%%')}\n",
        encoding="utf-8",
    )
    node = ("-c", str(config), "-N", "here")
    assert admin(*node, "declare", "queue", f"name={name}") == "queue declared"
    row = admin.row("queues", name)
    assert row is not None
    assert row["vhost"] == vhost
    assert admin("-q", *node, "delete", "queue", f"name={name}") == ""
    assert admin(f"--base-uri=http://127.0.0.1:{admin.port}", "list", "users", "name")
    assert admin("-H", "127.0.0.1", "-t", "5", "list", "vhosts")
    refused = admin.refused("-p", "wrong", "list", "users")
    assert refused == "*** Access refused: /api/users"
    assert "Access refused" in admin.refused("-u", "", "-p", "", "show", "overview")
