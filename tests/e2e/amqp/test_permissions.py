"""What users may do: the permission triple, topic permissions, tags, limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from support.amqp_peer import Peer
from support.server import Server, poll, reference_differs

Connect = Callable[..., Peer]


@pytest.fixture
def user(shared: Server, name: str) -> Iterator[str]:
    """A user of the name's own, who may touch only what is called NAME-..."""
    shared.ctl("add_user", name, "secret")
    shared.ctl("set_permissions", "-p", "/", name, f"^{name}-c", f"^{name}-w|^amq.default$", f"^{name}-r")
    yield name
    shared.ctl("delete_user", name)


@pytest.mark.parametrize(
    ("method", "arguments", "permission", "thing"),
    [
        ("queue.declare", {"queue": "{0}-x"}, "configure", "queue '{0}-x'"),
        ("queue.delete", {"queue": "{0}-x"}, "configure", "queue '{0}-x'"),
        ("exchange.declare", {"exchange": "{0}-x", "type": "direct"}, "configure", "exchange '{0}-x'"),
        ("exchange.delete", {"exchange": "{0}-x"}, "configure", "exchange '{0}-x'"),
        ("queue.bind", {"queue": "{0}-x", "exchange": "{0}-r"}, "write", "queue '{0}-x'"),
        ("queue.bind", {"queue": "{0}-w", "exchange": "{0}-x"}, "read", "exchange '{0}-x'"),
        ("basic.get", {"queue": "{0}-x"}, "read", "queue '{0}-x'"),
        ("basic.consume", {"queue": "{0}-x"}, "read", "queue '{0}-x'"),
        ("queue.purge", {"queue": "{0}-x"}, "read", "queue '{0}-x'"),
        ("basic.publish", {"exchange": "{0}-x"}, "write", "exchange '{0}-x'"),
    ],
)
@reference_differs("3.10: the text does not name the permission")
def test_what_permissions_refuse(
    connect: Connect, user: str, method: str, arguments: dict[str, str], permission: str, thing: str
) -> None:
    admin, peer = connect(), connect(user=user, password="secret")
    for letter in "xrw":
        admin.declare(1, f"{user}-{letter}")
        admin.rpc(1, "exchange.declare", exchange=f"{user}-{letter}", type="direct")
    peer.send(1, method, **{key: value.format(user) for key, value in arguments.items()})
    if method == "basic.publish":
        peer.send_raw(Peer.frame(2, 1, b"\0\x3c" + bytes(12)))
    peer.expect_channel_close(
        1, 403, method,
        f"ACCESS_REFUSED - {permission} access to {thing.format(user)} in vhost '/' refused for user '{user}'",
    )  # fmt: skip


def test_what_permissions_allow(connect: Connect, user: str) -> None:
    # expressions are searched for, not anchored at the end
    admin, peer = connect(), connect(user=user, password="secret")
    admin.declare(1, f"{user}-r-and-more")
    peer.publish(1, "", f"{user}-r-and-more", b"x")  # the default exchange is asked for as amq.default
    poll(lambda: peer.get(1, f"{user}-r-and-more"), "the message has not come")
    peer.declare(1, f"{user}-c-and-more")


def test_any_permission_allows_passive_declares(connect: Connect, user: str) -> None:
    admin, peer = connect(), connect(user=user, password="secret")
    for letter in "crw":
        admin.declare(1, f"{user}-{letter}")
        peer.rpc(1, "queue.declare", queue=f"{user}-{letter}", passive=True)


@reference_differs("3.10: passive declares need no permission")
def test_no_permission_does_not(connect: Connect, user: str) -> None:
    admin, peer = connect(), connect(user=user, password="secret")
    admin.declare(1, f"{user}-x")
    peer.send(1, "queue.declare", queue=f"{user}-x", passive=True)
    peer.expect_channel_close(1, 403, "queue.declare")


@pytest.mark.parametrize(
    ("queue", "exchange", "refused"),
    [("c-r", "w", None), ("c-r", "x", "exchange '{0}-x'"), ("c", "w", "queue '{0}-c'")],
    ids=["both", "no write", "no read"],
)
def test_dead_lettering_needs_permissions(
    shared: Server, connect: Connect, user: str, queue: str, exchange: str, refused: str | None
) -> None:
    # read the queue, write to the exchange
    shared.ctl("set_permissions", "-p", "/", user, f"^{user}-c", f"^{user}-w", f"^{user}-c-r")
    peer = connect(user=user, password="secret")
    peer.send(
        1,
        "queue.declare",
        queue=f"{user}-{queue}",
        arguments={"x-dead-letter-exchange": f"{user}-{exchange}"},
    )
    if refused is None:
        peer.expect(1, "queue.declare-ok")
    else:
        text = peer.expect_channel_close(1, 403, "queue.declare")
        assert refused.format(user) in text


def test_topic_permissions(shared: Server, connect: Connect, name: str) -> None:
    shared.ctl("add_user", name, "secret")
    try:
        shared.ctl("set_permissions", "-p", "/", name, ".*", ".*", ".*")
        shared.ctl("set_topic_permissions", "-p", "/", name, "amq.topic", "^w\\.", "^r\\.")
        peer = connect(user=name, password="secret")
        peer.declare(1, name, exclusive=True)
        peer.rpc(1, "queue.bind", queue=name, exchange="amq.topic", routing_key="r.*")
        peer.publish(1, "amq.topic", "w.x", b"x")
        peer.publish(1, "amq.direct", "any", b"x")  # only topic exchanges are asked about
        peer.publish(1, "amq.topic", "r.x", b"x")
        text = peer.expect_channel_close(1, 403, "basic.publish")
        assert "topic" in text
        assert "'r.x'" in text
        peer.open_channel(1)
        peer.send(1, "queue.bind", queue=name, exchange="amq.topic", routing_key="w.*")
        peer.expect_channel_close(1, 403, "queue.bind")
    finally:
        shared.ctl("delete_user", name)


def test_an_impersonator_may_say_who_sends(shared: Server, connect: Connect, name: str) -> None:
    shared.ctl("add_user", name, "secret")
    try:
        shared.ctl("set_permissions", "-p", "/", name, ".*", ".*", ".*")
        shared.ctl("set_user_tags", name, "impersonator")
        peer = connect(user=name, password="secret")
        peer.declare(1, name, exclusive=True)
        peer.publish(1, "", name, b"x", user_id="somebody")
        event = poll(lambda: peer.get(1, name), "nothing came")
        assert event.properties == {"user_id": "somebody"}
    finally:
        shared.ctl("delete_user", name)


def test_virtual_hosts_are_separate(shared: Server, connect: Connect, name: str) -> None:
    shared.ctl("add_vhost", name)
    try:
        shared.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
        here, there = connect(), connect(vhost=name)
        here.declare(1, name)
        there.send(1, "queue.declare", queue=name, passive=True)
        there.expect_channel_close(
            1, 404, "queue.declare", f"NOT_FOUND - no queue '{name}' in vhost '{name}'"
        )
        there.open_channel(1)
        there.rpc(1, "exchange.declare", exchange="amq.topic", type="topic", passive=True)
        there.close()
    finally:
        shared.ctl("delete_vhost", name)


def test_deleting_a_virtual_host_closes_its_connections(shared: Server, connect: Connect, name: str) -> None:
    shared.ctl("add_vhost", name)
    shared.ctl("set_permissions", "-p", name, "guest", ".*", ".*", ".*")
    there = connect(vhost=name)
    shared.ctl("delete_vhost", name)
    close = there.expect(0, "connection.close")
    assert close.reply_code == 320


def test_passwords_change_at_once(shared: Server, connect: Connect, name: str) -> None:
    shared.ctl("add_user", name, "one")
    try:
        shared.ctl("set_permissions", "-p", "/", name, ".*", ".*", ".*")
        connect(user=name, password="one").goodbye()
        shared.ctl("change_password", name, "two")
        connect(user=name, password="two").goodbye()
        with Peer(shared.port) as peer:
            peer.say_hello()
            peer.authenticate(name, "one")
            peer.expect_connection_close(403)
    finally:
        shared.ctl("delete_user", name)


def test_deleting_a_user_closes_its_connections(connect: Connect, shared: Server, name: str) -> None:
    shared.ctl("add_user", name, "secret")
    shared.ctl("set_permissions", "-p", "/", name, ".*", ".*", ".*")
    peer = connect(user=name, password="secret")
    shared.ctl("delete_user", name)
    assert peer.expect(0, "connection.close").reply_code == 320
