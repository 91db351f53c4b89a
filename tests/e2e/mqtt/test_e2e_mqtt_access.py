"""Who may come in where, and do what: virtual hosts, anonymous users, permissions of resources and of topics."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from e2e.mqtt.mqtt_broker import MQTT_REFERENCE, no_errors
from e2e.mqtt.mqtt_place import Place, control
from support.mqtt_peer import Packet
from support.server import LeveretServer

SECRET: dict[str, Any] = {"password": "secret"}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., LeveretServer]]:
    """One server for each combination of settings."""
    if MQTT_REFERENCE:
        pytest.skip("these tests start servers of their own")
    started: dict[str, LeveretServer] = {}
    with contextlib.ExitStack() as stack:

        def server(settings: dict[str, str]) -> LeveretServer:
            key = repr(settings)
            if key not in started:
                folder = tmp_path_factory.mktemp("place") / "data"
                started[key] = stack.enter_context(LeveretServer(folder, settings=settings))
            return started[key]

        yield server
        for each in started.values():
            no_errors(each)


@pytest.fixture
def place(servers: Callable[..., LeveretServer]) -> Iterator[Callable[..., Place]]:
    """A server with these settings of the section mqtt, and others by their names in the environment."""
    places: list[Place] = []

    def place(*, others: dict[str, str] | None = None, **settings: object) -> Place:
        named = {f"LEVERET_MQTT_{key.upper()}": str(value) for key, value in settings.items()}
        places.append(Place(servers(named | (others or {}))))
        return places[-1]

    yield place
    for each in places:
        each.leave()


Places = Callable[..., Place]


# Topics


def test_subscribing_where_one_may_not(place: Places) -> None:
    """[MQTT-3.9.3-1..2]: 0x87 for that filter, 0x80 in version 3"""
    here = place()
    here.user("alice")
    here.server.ctl("set_topic_permissions", "alice", "amq.topic", ".*", "^mine\\.")
    for version, code in ((4, 0x80), (5, 0x87)):
        peer = here.open("alice", version)
        assert peer.subscribe("mine/#", "others/#", "mine/a", "#", qos=1) == [1, code, 1, code]
        here.open().publish("others/x", b"x")
        peer.nothing()


def test_publishing_where_one_may_not_ends_the_connection(place: Places) -> None:
    """RabbitMQ's default"""
    here = place()
    here.user("alice")
    here.topics("alice", "^mine\\.", ".*")
    watcher = here.open().subscribed("#", qos=2)
    for version in (3, 4, 5):
        for qos in (0, 1, 2):
            peer = here.open("alice", version)
            peer.publish("mine/x", b"yes", qos=1)
            watcher.receive(b"yes")
            peer.say_publish("others/x", b"no", qos=qos, retain=True)
            packet: Packet | None = None
            if version == 5 and qos:
                packet = peer.next()
                if packet.name in ("PUBACK", "PUBREC"):
                    assert packet.code == 0x87
                    packet = None
                else:
                    assert (packet.name, packet.code) == ("DISCONNECT", 0x87)
            if packet is None:
                peer.expect_end(0x87)
    watcher.nothing()
    here.open().subscribed("others/#").nothing()


def test_publishing_where_one_may_not_may_be_told_by_its_acknowledgement(place: Places) -> None:
    """Setting mqtt.disconnect_on_unauthorized; version 3 has no code for it [MQTT-3.3.5-2 of 3.1.1: acknowledge anyway]"""
    here = place(disconnect_on_unauthorized=False)
    here.user("alice")
    here.topics("alice", "^mine\\.", ".*")
    watcher = here.open().subscribed("#", qos=2)
    for version in (3, 4, 5):
        for qos in (0, 1, 2):
            peer = here.open("alice", version)
            answer = peer.publish("others/x", b"no", qos=qos, retain=True, code=None)
            if version == 5 and qos:
                assert answer.code == 0x87
            peer.publish("mine/x", b"yes", qos=qos)
            watcher.receive(b"yes")
    watcher.nothing()
    here.open().subscribed("others/#").nothing()


def test_username_client_id_and_vhost_in_patterns(place: Places) -> None:
    """Variables; their values are no patterns"""
    here = place()
    here.user("alice")
    here.user("a.b")
    here.vhost("east")
    here.user("alice", vhost="east")
    for vhost in ("/", "east"):
        here.topics("alice", "^{username}\\.{client_id}\\.", "^{vhost}\\.{username}$", vhost)
    here.topics("a.b", "^{username}$", "^x$")
    alice = here.open("alice", client_id="device-1")
    alice.publish("alice/device-1/t", b"x")
    assert alice.subscribe("//alice", "east/alice", qos=1) == [0x87, 0x87]  # `/.alice` is no key of a topic
    alice.say_publish("alice/device-2/t", b"x")
    alice.expect_end(0x87)
    east = here.open("east:alice", client_id="device-1")
    assert east.subscribe("east/alice", "west/alice", qos=1) == [1, 0x87]
    dotted = here.open("a.b")
    dotted.publish("a.b", b"x")
    dotted.say_publish("aXb", b"x")
    dotted.expect_end(0x87)


def test_changes_hold_at_once(place: Places) -> None:
    """docs/architecture.md: "Permission changes hold at once" """
    here = place(disconnect_on_unauthorized=False)
    here.user("alice")
    alice = here.open("alice")
    alice.publish("t", b"x", qos=1)
    here.topics("alice", "^$", "^$")
    assert alice.publish("t", b"x", qos=1, code=None).code == 0x87
    assert alice.subscribe("t") == [0x87]
    control(here.server, "clear_topic_permissions", user="alice", vhost="/")
    assert alice.subscribe("t") == [0]
    here.user("alice", ".*", "^$", "^$")
    assert alice.publish("t", b"x", qos=1, code=None).code == 0x87


def test_shared_subscriptions_are_checked_by_what_they_read(place: Places) -> None:
    here = place()
    here.user("alice")
    here.topics("alice", ".*", "^mine\\.")
    assert here.open("alice").subscribe("$share/g/others/x", "$share/g/mine/x", qos=1) == [0x87, 1]


def test_retained_messages_are_checked_too(place: Places) -> None:
    here = place()
    here.user("alice")
    here.topics("alice", ".*", "^mine\\.")
    here.open().publish("others/x", b"secret", retain=True)
    alice = here.open("alice")
    alice.subscribe("others/x", "others/#", "+/x")
    alice.nothing()


# Resources


@pytest.mark.parametrize(
    ("permissions", "may_publish", "may_subscribe"),
    [
        (("^$", "^amq\\.topic$", "^$"), True, False),
        (("^$", "^$", "^amq\\.topic$"), False, None),
        ((".*", ".*", ".*"), True, True),
        (("^$", "^$", "^$"), False, False),
    ],
)
def test_permissions_of_resources(
    place: Places, permissions: tuple[str, str, str], may_publish: bool, may_subscribe: bool | None
) -> None:
    """Publishing needs write on amq.topic, subscribing read on it."""
    here = place(disconnect_on_unauthorized=False)
    here.user("alice", *permissions)
    alice = here.open("alice")
    assert (alice.publish("t", b"x", qos=1, code=None).code in (0, 0x10)) == may_publish
    if may_subscribe is not None:
        assert (alice.subscribe("t", qos=1) == [1]) == may_subscribe


def test_a_user_without_permissions_in_the_vhost(place: Places) -> None:
    here = place()
    here.add_user("nobody")
    for version, code in ((3, 5), (4, 5), (5, 0x87)):
        here.socket(version).connect("x", username="nobody", code=code, **SECRET)


def test_loopback_users_come_from_here(place: Places) -> None:
    place().open("guest").ping()


def test_sessions_belong_to_their_virtual_host(place: Places) -> None:
    """The same client id in two virtual hosts is two clients."""
    here = place()
    here.vhost("east")
    here.user("alice")
    here.user("alice", vhost="east")
    first = here.open("alice", client_id="same", session_expiry=60)
    second = here.open("east:alice", client_id="same", session_expiry=60)
    first.ping()
    second.subscribed("t")
    first.publish("t", b"x", qos=0, retain=True)
    second.nothing()
    here.open("east:alice").subscribed("#").nothing()


def test_another_user_does_not_get_the_session(place: Places) -> None:
    """A client id is no secret: with another user's login there is no way to what is queued under it."""
    here = place()
    here.user("alice")
    here.user("mallory")
    alice = here.open("alice", client_id="alices", session_expiry=600).subscribed("t", qos=1)
    alice.disconnect()
    here.open().publish("t", b"private")
    thief = here.socket()
    thief.say_connect("alices", username="mallory", clean_start=False, session_expiry=600, **SECRET)
    answer = thief.next()
    assert answer.name == "CONNACK"
    if answer.code == 0:
        assert not answer.session_present
        thief.nothing()


# Virtual hosts


def test_vhost_in_the_user_name(place: Places) -> None:
    """The last colon counts"""
    here = place()
    for vhost in ("east", "a:b"):
        here.vhost(vhost)
        here.user("alice", vhost=vhost)
    here.user("alice")
    peers = {name: here.open(name) for name in ("alice", "/:alice", "east:alice", "a:b:alice")}
    for peer in peers.values():
        peer.subscribed("t", qos=1)
    peers["alice"].say_publish("t", b"default")
    peers["alice"].receive(b"default")
    peers["/:alice"].receive(b"default")
    peers["east:alice"].nothing()
    peers["a:b:alice"].say_publish("t", b"ab")
    peers["a:b:alice"].receive(b"ab")
    for peer in peers.values():
        peer.nothing()


def test_a_vhost_that_is_not_there(place: Places) -> None:
    here = place()
    here.user("alice")
    for version, code in ((4, (4, 5)), (5, (0x86, 0x87))):
        peer = here.socket(version)
        peer.say_connect("x", username="nowhere:alice", **SECRET)
        assert peer.expect("CONNACK").code in code
        peer.expect_eof()


def test_colons_may_belong_to_the_name(place: Places) -> None:
    here = place(ignore_colons_in_username=True)
    here.user("urn:dev:1")
    here.open("urn:dev:1").ping()


def test_the_default_vhost_is_a_setting(place: Places) -> None:
    here = place(vhost="east")
    here.vhost("east")
    here.user("alice", vhost="east")
    here.open("alice").ping()
    here.socket().connect("x", code=0x87)  # guest has none there


@contextlib.contextmanager
def global_parameter(server: LeveretServer, name: str, value: object) -> Iterator[None]:
    server.ctl("set_global_parameter", name, json.dumps(value))
    try:
        yield
    finally:
        server.ctl("clear_global_parameter", name)


def test_a_port_may_have_a_vhost(place: Places) -> None:
    """Global parameter mqtt_port_to_vhost_mapping; the user name goes first"""
    here = place()
    here.vhost("east")
    here.user("alice")
    here.user("alice", vhost="east")
    mapping = {str(here.server.ports["mqtt"]): "east"}
    with global_parameter(here.server, "mqtt_port_to_vhost_mapping", mapping):
        mapped, named = here.open("alice"), here.open("/:alice")
        mapped.subscribed("t", qos=1)
        named.publish("t", b"x")
        mapped.nothing()
        here.open("east:alice").publish("t", b"y")
        mapped.receive(b"y")


# Anonymous

ANONYMOUS = {"LEVERET_AUTH_ANONYMOUS_USER": "visitor", "LEVERET_AUTH_MECHANISMS": "PLAIN,ANONYMOUS"}


def test_without_a_user_name_nobody_comes_in(place: Places) -> None:
    here = place()
    for version, code in ((3, 5), (4, 5), (5, 0x87)):
        here.socket(version).connect("x", username=None, password=None, code=code)


def test_anonymous_clients_are_the_user_that_is_set(place: Places) -> None:
    here = place(others=ANONYMOUS, disconnect_on_unauthorized=False)
    here.user("visitor")
    here.topics("visitor", "^open\\.", ".*")
    for version in (3, 4, 5):
        peer = here.open(None, version)
        peer.publish("open/t", b"x")
        answer = peer.publish("shut/t", b"x", code=None)
        assert version < 5 or answer.code == 0x87
    here.socket().connect("x", username="visitor", password="wrong", code=0x86)


def test_anonymous_needs_both_settings(place: Places) -> None:
    only_user = place(others={"LEVERET_AUTH_ANONYMOUS_USER": "guest"})
    only_user.socket().connect("x", username=None, password=None, code=0x87)
    only_mechanism = place(others={"LEVERET_AUTH_MECHANISMS": "PLAIN,ANONYMOUS"})
    only_mechanism.socket().connect("x", username=None, password=None, code=0x87)
