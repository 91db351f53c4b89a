"""Who may see what of the management API, and its health checks."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from support.management import Management, control
from support.management_activity import USERS, VHOST, Activity
from support.server import LeveretServer, own_server_only

pytestmark = own_server_only("the server needs users and settings of its own")


def test_logins(broker: LeveretServer) -> None:
    port = broker.ports["http"]
    failed = {"error": "not_authorized", "reason": "Login failed"}
    for user, password in [(None, ""), ("guest", "wrong"), ("stranger", "p"), ("", "")]:
        with Management(port, user, password) as client:
            answer = client.request("GET", "/whoami")
            assert (answer.status, answer.json) == (401, failed)
            assert answer.headers["www-authenticate"].startswith("Basic ")
    with Management(port, None) as client:
        for header in ("Basic !!!", "Basic bm9jb2xvbg==", "Bearer no.jwt", "Digest x", "Bearer"):
            answer = client.request("GET", "/whoami", headers={"Authorization": header})
            assert (answer.status, answer.json) == (401, failed)


def test_a_changed_password_counts_at_once(broker: LeveretServer) -> None:
    control(broker, ("add_user", {"username": "temp", "password": "one"}))
    control(broker, ("set_user_tags", {"username": "temp", "tags": ["management"]}))
    try:
        with Management(broker.ports["http"], "temp", "one") as client:
            assert client.get("/whoami")["name"] == "temp"
            control(broker, ("change_password", {"username": "temp", "password": "two"}))
            assert client.request("GET", "/whoami").status == 401
        with Management(broker.ports["http"], "temp", "two") as client:
            assert client.get("/whoami")["tags"] == ["management"]
            control(broker, ("set_user_tags", {"username": "temp", "tags": []}))
            assert client.request("GET", "/whoami").status == 401
    finally:
        control(broker, ("delete_user", {"username": "temp"}))


# As RabbitMQ 3.10.8 answers: who gets 200; the others 401 with this reason.
ANY = {"admin", "monitor", "maker", "manager"}
SEEN = [
    ("/overview", ANY, ""),
    ("/whoami", ANY, ""),
    ("/nodes", {"admin", "monitor"}, "Not monitor user"),
    ("/users", {"admin"}, "Not administrator user"),
    ("/vhosts", ANY, ""),
    ("/vhosts/%2F", {"admin"}, "Not administrator user"),
    ("/queues", ANY, ""),
    ("/queues/%2F", set[str](), "User not authorised to access virtual host"),
    ("/connections", ANY, ""),
    ("/channels", ANY, ""),
    ("/consumers", ANY, ""),
    ("/permissions", {"admin"}, "Not administrator user"),
    ("/topic-permissions", {"admin"}, "Not administrator user"),
    ("/policies", ANY, ""),
    ("/parameters", {"admin", "maker"}, "User not authorised to access object"),
    ("/global-parameters", {"admin", "maker"}, "User not authorised to access object"),
    ("/feature-flags", {"admin"}, "Not administrator user"),
    ("/cluster-name", ANY, ""),
    ("/health/checks/alarms", ANY, ""),
    ("/aliveness-test/%2F", set[str](), "User not authorised to access virtual host"),
]


@pytest.mark.parametrize("user", USERS)
def test_what_each_tag_may_see(broker: LeveretServer, user: str) -> None:
    with Management(broker.ports["http"], user, "p") as client:
        for path, allowed, reason in SEEN:
            answer = client.request("GET", path)
            if user in allowed:
                assert answer.status == 200, (path, answer)
                continue
            if user == "nobody":
                reason = "Not management user"
            assert (answer.status, answer.json) == (401, {"error": "not_authorised", "reason": reason}), path


def test_others_connections_are_seen_by_those_who_monitor(broker: LeveretServer, activity: Activity) -> None:
    port = broker.ports["http"]
    name = quote(activity.name, safe="")
    with Management(port, "manager", "p") as client:
        assert client.get("/connections") == client.get("/channels") == client.get("/consumers") == []
        assert client.request("GET", f"/connections/{name}").status == 401
        assert client.get("/overview")["object_totals"]["connections"] == 0
        assert [vhost["name"] for vhost in client.get("/vhosts")] == [VHOST]
        assert {one["vhost"] for one in client.get("/exchanges")} == {VHOST}
        assert "listeners" not in client.get("/overview")
    with Management(port, "monitor", "p") as client:
        assert len(client.get("/connections")) == 1
        assert len(client.get("/channels")) == 2
        assert len(client.get("/vhosts")) == 2
        assert client.get("/queues") == []


def test_health_checks(api: Management, broker: LeveretServer) -> None:
    ok = {"status": "ok"}
    for check in (
        "alarms", "local-alarms", "virtual-hosts", "certificate-expiration/1/days", "metadata-store/initialized",
        "quorum-queues-without-elected-leaders/all-vhosts/",
    ):  # fmt: skip
        assert api.get(f"/health/checks/{check}") == ok
    for check in ("node-is-quorum-critical", "node-is-mirror-sync-critical"):
        assert api.get(f"/health/checks/{check}") == {"status": "ok", "reason": "single node cluster"}
    assert api.get(f"/health/checks/port-listener/{broker.port}") == {"status": "ok", "port": broker.port}
    missing = api.request("GET", "/health/checks/port-listener/1")
    assert missing.status == 503
    assert missing.json.items() >= {"status": "failed", "reason": "No active listener", "missing": 1}.items()
    assert broker.port in missing.json["ports"]
    assert api.request("GET", "/health/checks/port-listener/x").json == {
        "error": "bad_request",
        "reason": "Invalid port",
    }
    assert api.get("/health/checks/protocol-listener/amqp091,http")["status"] == "ok"
    missing = api.request("GET", "/health/checks/protocol-listener/amqp10")
    assert (missing.status, missing.json["missing"]) == (503, "amqp10")
    assert "amqp" in missing.json["protocols"]
    bad = api.request("GET", "/health/checks/certificate-expiration/1/foo")
    assert bad.status == 400
    assert bad.json["reason"] == "Time unit not recognised. Supported units: days, weeks, months, years."
    assert api.get("/aliveness-test/%", "/") == api.get("/healthchecks/node") == ok
    assert api.request("GET", "/healthchecks/node/other").status == 404
    with Management(broker.ports["http"], None) as stranger:  # load balancers have no password
        assert stranger.get("/health/checks/is-in-service") == ok
        assert stranger.get("/health/checks/ready-to-serve-clients")["status"] == "ok"
        assert stranger.get("/health/checks/below-node-connection-limit")["status"] == "ok"
        assert stranger.request("GET", "/health/checks/alarms").status == 401


def test_alarms_fail_the_checks(api: Management, broker: LeveretServer) -> None:
    node = api.get("/overview")["node"]
    control(broker, ("set_vm_memory_high_watermark", {"fraction": "0"}))
    try:
        answer = api.request("GET", "/health/checks/alarms")
        assert (answer.status, answer.json) == (
            503,
            {
                "status": "failed",
                "reason": "There are alarms in effect in the cluster",
                "alarms": [{"node": node, "resource": "memory"}],
            },
        )
        local = api.request("GET", "/health/checks/local-alarms")
        assert local.json["reason"] == "There are alarms in effect on the node"
        assert api.get("/nodes")[0]["mem_alarm"] is True
    finally:
        control(broker, ("set_vm_memory_high_watermark", {"fraction": "0.6"}))


def test_methods_and_paths(api: Management) -> None:
    answer = api.request("OPTIONS", "/whoami")
    assert (answer.status, answer.headers["allow"], answer.body) == (200, "GET, HEAD, OPTIONS", b"")
    answer = api.request("POST", "/whoami")
    assert answer.status == 405
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert api.request("HEAD", "/overview").status == 200
    for path in ("/nowhere", "/queues/nope", "/queues/%2F/nope", "/exchanges/%2F/nope", "/vhosts/nope"):
        answer = api.request("GET", path)
        assert (answer.status, answer.json) == (404, {"error": "Object Not Found", "reason": "Not Found"})
    assert api.request("GET", "/overview/").status == 200
