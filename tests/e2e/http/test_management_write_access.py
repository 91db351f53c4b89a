"""Who may change what through the management API: tags decide first, then the user's own permissions."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pika
import pytest
from support.management import Management, control
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs users of its own")

USERS = {
    "admin": "administrator",
    "monitor": "monitoring",
    "maker": "policymaker",
    "manager": "management",
    "nobody": "",
}
POLICY = {"pattern": "zz", "definition": {"max-length": 1}}
ROW = {"configure": "", "write": "", "read": ""}
MESSAGE = {"routing_key": "r", "payload": "x", "payload_encoding": "string", "properties": {}}
GET = {"count": 1, "ackmode": "ack_requeue_false", "encoding": "auto"}

ADMINISTRATORS: list[tuple[str, str, Any]] = [
    ("PUT", "/vhosts/new", None),
    ("DELETE", "/vhosts/v", None),
    ("PUT", "/users/new", {"password": "x", "tags": ""}),
    ("DELETE", "/users/admin", None),
    ("POST", "/users/bulk-delete", {"users": ["admin"]}),
    ("PUT", "/permissions/v/manager", ROW),
    ("DELETE", "/permissions/v/manager", None),
    ("PUT", "/topic-permissions/v/manager", {"exchange": "a", "write": "", "read": ""}),
    ("DELETE", "/topic-permissions/v/manager", None),
    ("PUT", "/operator-policies/v/zz", POLICY),
    ("DELETE", "/operator-policies/v/zz", None),
    ("PUT", "/vhost-limits/v/max-queues", {"value": 100}),
    ("DELETE", "/vhost-limits/v/max-queues", None),
    ("PUT", "/user-limits/manager/max-channels", {"value": 100}),
    ("DELETE", "/user-limits/manager/max-channels", None),
    ("PUT", "/cluster-name", {"name": "x"}),
    ("POST", "/queues/v/o/actions", {"action": "sync"}),
    ("GET", "/definitions", None),
    ("GET", "/definitions/v", None),
    ("POST", "/definitions", {}),
    ("POST", "/definitions/v", {}),
    ("GET", "/all-configuration", None),
    ("POST", "/rebalance/queues", None),
]
POLICYMAKERS: list[tuple[str, str, Any]] = [
    ("PUT", "/policies/v/zz", POLICY),
    ("DELETE", "/policies/v/zz", None),
    ("PUT", "/parameters/webhook/v/zz", {"value": 1}),
    ("DELETE", "/parameters/webhook/v/zz", None),
    ("PUT", "/global-parameters/zz", {"value": 1}),
    ("DELETE", "/global-parameters/zz", None),
]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LeveretServer]:
    with LeveretServer(tmp_path_factory.mktemp("access") / "data") as server:
        commands: list[tuple[str, dict[str, Any]]] = [("add_vhost", {"name": "v"})]
        for user, tag in USERS.items():
            commands.append(("add_user", {"username": user, "password": user}))
            commands.append(("set_user_tags", {"username": user, "tags": [tag] if tag else []}))
        for user in ("maker", "manager", "nobody"):  # names that begin with m are theirs
            commands.append(
                (
                    "set_permissions",
                    {"user": user, "vhost": "v", "configure": "^m", "write": "^m", "read": "^m"},
                )
            )
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        commands += [
            ("set_permissions", {"user": "guest", "vhost": "v", **everything}),
            ("set_permissions", {"user": "manager", "vhost": "/", "configure": "", "write": "", "read": ""}),
        ]
        control(server, *commands)
        yield server
        assert "Traceback" not in server.errors, server.errors
        assert server.stop() == 0


@pytest.fixture
def ask(started: LeveretServer) -> Iterator[Any]:
    """ask(user, method, path, body): status and, of a refusal, the reason."""
    clients = {user: Management(started.ports["http"], user, user) for user in [*USERS, "guest"]}

    def ask(user: str, method: str, path: str, body: Any = None) -> tuple[int, str]:
        answer = clients[user].request(method, path, body)
        if answer.status >= 400:
            return answer.status, answer.json["reason"]
        return answer.status, ""

    yield ask
    for client in clients.values():
        client.close()


def test_tags_decide(ask: Any) -> None:
    for method, path, body in ADMINISTRATORS:
        for user in ("monitor", "maker", "manager"):
            assert ask(user, method, path, body) == (401, "Not administrator user"), (user, method, path)
        assert ask("nobody", method, path, body) == (401, "Not management user"), (method, path)
    for method, path, body in POLICYMAKERS:
        for user in ("monitor", "manager"):
            assert ask(user, method, path, body) == (401, "User not authorised to access object"), (
                user,
                path,
            )
    assert ask("maker", "PUT", "/policies/v/zz", POLICY) == (201, "")
    assert ask("maker", "DELETE", "/policies/v/zz") == (204, "")
    assert ask("maker", "PUT", "/global-parameters/zz", {"value": 1}) == (201, "")
    assert ask("maker", "DELETE", "/global-parameters/zz") == (204, "")
    # In virtual hosts that they may enter; administrators in all.
    assert ask("maker", "PUT", "/policies/%2F/zz", POLICY) == (401, "User not authorised to access object")
    assert ask("admin", "PUT", "/policies/%2F/zz", POLICY) == (201, "")
    assert ask("admin", "DELETE", "/policies/%2F/zz") == (204, "")


def test_policymakers_get_no_further_by_parameters(ask: Any) -> None:
    """Limits and operator policies are parameters, too: RabbitMQ 3.10 lets policymakers set them so."""
    value = {"value": {"max-queues": 100}}
    assert ask("maker", "PUT", "/parameters/vhost-limits/v/limits", value) == (401, "Not administrator user")
    assert ask("maker", "DELETE", "/parameters/vhost-limits/v/limits") == (401, "Not administrator user")
    assert ask("maker", "PUT", "/parameters/operator_policy/v/o", {"value": POLICY}) == (
        401,
        "Not administrator user",
    )


def test_permissions_decide(ask: Any) -> None:
    refused = (401, "Access refused.")
    for method, path, body, status in (
        ("PUT", "/queues/v/mq", {}, 201),
        ("PUT", "/exchanges/v/mx", {}, 201),
        ("POST", "/bindings/v/e/mx/q/mq", {"routing_key": "r"}, 201),
        ("POST", "/exchanges/v/mx/publish", MESSAGE, 200),
        ("POST", "/queues/v/mq/get", GET, 200),
        ("DELETE", "/queues/v/mq/contents", None, 204),
    ):
        assert ask("manager", method, path, body) == (status, ""), path
    assert ask("guest", "PUT", "/queues/v/other", {}) == (201, "")
    for method, path, body in (
        ("PUT", "/queues/v/another", {}),
        ("PUT", "/exchanges/v/another", {}),
        ("POST", "/bindings/v/e/amq.topic/q/mq", {}),
        ("POST", "/bindings/v/e/mx/q/other", {}),
        ("POST", "/queues/v/other/move", {"destination": "mq"}),
        ("POST", "/queues/v/mq/move", {"destination": "other"}),  # writes to the default exchange
        ("DELETE", "/queues/v/other/contents", None),
        ("DELETE", "/queues/v/other", None),
    ):
        assert ask("manager", method, path, body) == refused, path
    assert ask("manager", "POST", "/exchanges/v/amq.topic/publish", MESSAGE) == (
        400,
        "403 ACCESS_REFUSED - write access to exchange 'amq.topic' in vhost 'v' refused for user 'manager'",
    )
    assert ask("manager", "POST", "/queues/v/other/get", GET) == (
        401,
        "ACCESS_REFUSED - read access to queue 'other' in vhost 'v' refused for user 'manager'",
    )
    assert ask("manager", "DELETE", "/queues/v/nope") == (404, "Not Found")
    # Without a permission in the virtual host nothing at all, administrators and monitoring included.
    outside = (401, "User not authorised to access virtual host")
    for user in ("monitor", "admin"):
        for method, path, body in (
            ("PUT", "/queues/v/q", {}),
            ("DELETE", "/queues/v/mq", None),
            ("POST", "/queues/v/mq/get", GET),
            ("POST", "/exchanges/v/mx/publish", MESSAGE),
            ("POST", "/bindings/v/e/mx/q/mq", {}),
            ("DELETE", "/bindings/v/e/mx/q/mq/r", None),
        ):
            assert ask(user, method, path, body) == outside, (user, path)
    assert ask("manager", "DELETE", "/bindings/v/e/mx/q/mq/r") == (204, "")
    assert ask("manager", "DELETE", "/queues/v/mq") == (204, "")
    assert ask("manager", "DELETE", "/exchanges/v/mx") == (204, "")
    assert ask("guest", "DELETE", "/queues/v/other") == (204, "")


def test_topic_permissions_hold(started: LeveretServer, ask: Any) -> None:
    assert ask("guest", "PUT", "/exchanges/v/mtopic", {"type": "topic"}) == (201, "")
    control(
        started,
        (
            "set_topic_permissions",
            {"user": "manager", "vhost": "v", "exchange": "mtopic", "write": "^a", "read": "^a"},
        ),
    )
    assert ask("manager", "POST", "/exchanges/v/mtopic/publish", MESSAGE | {"routing_key": "a.b"}) == (
        200,
        "",
    )
    status, reason = ask("manager", "POST", "/exchanges/v/mtopic/publish", MESSAGE)
    assert status == 400
    assert "topic 'r'" in reason
    assert ask("manager", "PUT", "/queues/v/mt", {}) == (201, "")
    assert ask("manager", "POST", "/bindings/v/e/mtopic/q/mt", {"routing_key": "b"}) == (
        401,
        "Access refused.",
    )
    assert ask("manager", "POST", "/bindings/v/e/mtopic/q/mt", {"routing_key": "a.#"}) == (201, "")


def test_connections_of_others_are_for_administrators(started: LeveretServer, ask: Any) -> None:
    def connect(user: str) -> tuple[pika.BlockingConnection, str]:
        url = f"amqp://{user}:{user}@127.0.0.1:{started.port}/v"
        connection = pika.BlockingConnection(pika.URLParameters(url))
        with Management(started.ports["http"]) as api:
            (name,) = [one["name"] for one in api.get("/connections") if one["user"] == user]
        return connection, quote(name, safe="")

    others = (401, "User not authorised to access object")
    connection, name = connect("maker")
    for user in ("manager", "monitor"):
        assert ask(user, "DELETE", f"/connections/{name}") == others
        assert ask(user, "DELETE", "/connections/username/maker") == others
    assert connection.is_open
    assert ask("maker", "DELETE", f"/connections/{name}") == (204, "")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
        connection.process_data_events(5)
    connection, name = connect("nobody")
    assert ask("admin", "DELETE", "/connections/username/nobody") == (204, "")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
        connection.process_data_events(5)


def test_a_deleted_user_is_out_at_once(started: LeveretServer, ask: Any) -> None:
    assert ask("guest", "PUT", "/users/gone", {"password": "gone", "tags": "management"}) == (201, "")
    row = {"configure": ".*", "write": ".*", "read": ".*"}
    assert ask("guest", "PUT", "/permissions/v/gone", row) == (201, "")
    connection = pika.BlockingConnection(pika.URLParameters(f"amqp://gone:gone@127.0.0.1:{started.port}/v"))
    with Management(started.ports["http"], "gone", "gone") as own:
        assert own.get("/whoami")["name"] == "gone"
        assert ask("guest", "DELETE", "/users/gone") == (204, "")
        assert own.request("GET", "/whoami").status == 401
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
        connection.process_data_events(5)


def test_curl(started: LeveretServer) -> None:
    base = f"http://127.0.0.1:{started.ports['http']}/api"

    def curl(*arguments: str) -> str:
        done = subprocess.run(
            ["curl", "-s", "-u", "guest:guest", "-w", "%{http_code}", *arguments],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        return done.stdout

    assert (
        curl(
            "-X",
            "PUT",
            "-H",
            "content-type: application/json",
            "-d",
            '{"durable":true}',
            f"{base}/queues/%2f/curl",
        )
        == "201"
    )
    assert curl(
        "-i", "-X", "POST", "-d", '{"routing_key":"k"}', f"{base}/bindings/%2f/e/amq.topic/q/curl"
    ).endswith("201")
    published = curl("-d", '{"properties":{},"routing_key":"k","payload":"hi","payload_encoding":"string"}',
                     f"{base}/exchanges/%2f/amq.topic/publish")  # fmt: skip
    assert published == '{"routed":true}200'
    got = curl(
        "-d", '{"count":1,"ackmode":"ack_requeue_false","encoding":"auto"}', f"{base}/queues/%2f/curl/get"
    )
    assert '"payload":"hi"' in got
    assert curl("-X", "DELETE", f"{base}/queues/%2f/curl") == "204"
