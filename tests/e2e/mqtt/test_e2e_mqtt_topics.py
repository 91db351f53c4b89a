"""Topics and filters: matching, what is well formed, levels with dots (4.7)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e.mqtt.mqtt_broker import leveret_only, versions
from support import mqtt_wire
from support.mqtt_peer import MqttPeer, Sub

Client = Callable[..., MqttPeer]

MATCHES = [
    # filter, topics that match, topics that do not; {} is a name of the test's own
    ("{}/#", ["{}", "{}/", "{}/a", "{}/a/b", "{}//", "{}/a//b/"], ["{}x", "/{}", "x{}/a"]),
    ("{}/+", ["{}/", "{}/a", "{}/+x"], ["{}", "{}/a/", "{}//", "{}/a/b"]),
    ("{}/+/c", ["{}/a/c", "{}//c"], ["{}/c", "{}/a/b/c", "{}/a/c/"]),
    ("{}/+/+", ["{}//", "{}/a/b", "{}/a/"], ["{}/a", "{}/a/b/c"]),
    ("{}/a/#", ["{}/a", "{}/a/", "{}/a/b/c"], ["{}", "{}/", "{}/b", "{}/ab"]),
    ("{}/+/#", ["{}/", "{}/a", "{}/a/b"], ["{}"]),
    ("+/{}", ["/{}", "a/{}"], ["{}", "a/b/{}", "/{}/"]),
    ("/{}", ["/{}"], ["{}", "//{}"]),
    ("{}", ["{}"], ["/{}", "{}/", "{} "]),
    ("{}/A", ["{}/A"], ["{}/a"]),
    ("{}/é", ["{}/é"], ["{}/e\u0301", "{}/E"]),  # byte by byte: no normal form
    ("{}/a b", ["{}/a b"], ["{}/ab"]),
    ("{}/\ufeffx", ["{}/\ufeffx"], ["{}/x"]),  # [MQTT-1.5.4-3]: a BOM is a character
    ("{}/𝄞/+", ["{}/𝄞/x"], ["{}/x/x"]),
    ("{}/$x/#", ["{}/$x", "{}/$x/y"], ["{}/x"]),
    ("{}/*", ["{}/*"], ["{}/a"]),
]


@pytest.mark.parametrize(("pattern", "matching", "other"), MATCHES, ids=[match[0] for match in MATCHES])
@versions
def test_38_matching(
    client: Client, name: str, version: int, pattern: str, matching: list[str], other: list[str]
) -> None:
    """[MQTT-4.7.1-2] [MQTT-4.7.1-3] [MQTT-4.7.3-4]: letter by letter; live and retained"""
    subscriber = client(version).subscribed(pattern.format(name), qos=1)
    publisher = client(version)
    wanted = [topic.format(name) for topic in matching if "+" not in topic]
    for topic in [*wanted, *(topic.format(name) for topic in other)]:
        publisher.publish(topic, topic.encode(), qos=0, retain=True)
    seen = subscriber.barrier()
    assert [(message.topic, message.payload) for message in seen] == [(t, t.encode()) for t in wanted]
    late = client(version).subscribed(pattern.format(name), qos=0)
    assert sorted(message.topic for message in late.barrier()) == sorted(wanted)


@versions
def test_38_a_hash_matches_its_parent(client: Client, name: str, version: int) -> None:
    subscriber = client(version).subscribed(f"{name}/#")
    client(version).publish(name, b"x", qos=0)
    subscriber.receive(b"x", topic=name)


@versions
def test_38_wildcards_do_not_see_dollar_topics(client: Client, name: str, version: int) -> None:
    """[MQTT-4.7.2-1]: not only $SYS"""
    hidden = client(version).subscribed(f"+/{name}/#", f"+/{name}/a")
    plain = client(version).subscribed(f"$own/{name}/#")
    client().publish(f"$own/{name}/a", b"x", qos=0, retain=True)
    plain.receive(b"x")
    hidden.nothing()
    client(version).subscribed(f"+/{name}/#").nothing()


@versions
@pytest.mark.parametrize(
    "topic",
    [
        b"",
        b"a/#",
        b"a/+",
        b"+",
        b"#",
        b"a+b",
        b"a#",
        b"a\0b",
        b"\xff",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
    ],
)
@pytest.mark.parametrize("qos", [0, 1])
def test_38_topics_that_are_none(client: Client, version: int, topic: bytes, qos: int) -> None:
    """[MQTT-3.3.2-1] [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-4.7.3-2] [MQTT-1.5.4-1] [MQTT-1.5.4-2]"""
    peer = client(version)
    peer.send_raw(mqtt_wire.publish(version, topic, b"x", qos=qos, packet_id=1 if qos else None))
    packet = None
    if version == 5 and qos:
        packet = peer.next()
        if packet.name == "PUBACK":  # may be refused alone, [MQTT-4.13.2-1] asks no more
            assert packet.code == 0x90
            return
        assert packet.name == "DISCONNECT"
        assert packet.code in (0x81, 0x82, 0x90)
        peer.expect_eof()
        return
    peer.expect_end(0x81, 0x82, 0x90)


@versions
def test_long_topics(client: Client, name: str, version: int) -> None:
    """4.7.3: up to 65535 bytes. Leveret's routing keys too? It must deliver them, or refuse; never cut them."""
    peer = client(version)
    for length in (200, 255, 256, 300):
        topic = (name + "/" + "x" * length)[:length]
        peer.subscribed(topic, qos=0)
        peer.say_publish(topic, b"%d" % length)
        peer.receive(b"%d" % length, topic=topic)


@versions
@pytest.mark.parametrize("length", [1000, 20_000, 65_535])
def test_very_long_topics(client: Client, name: str, version: int, length: int) -> None:
    topic = name + "/" + "x" * (length - len(name) - 1)
    watcher = client(version).subscribed(f"{name}/+")
    publisher = client(version)
    try:
        publisher.publish(topic, b"long", qos=1, code=None)
    except AssertionError:
        watcher.nothing()
        return
    assert {message.topic for message in watcher.barrier()} <= {topic}


@versions
def test_deep_topics(client: Client, name: str, version: int) -> None:
    levels = "/".join("abcdefgh" * 6)
    subscriber = client(version).subscribed(f"{name}/#", f"{name}/{levels}", qos=0)
    publisher = client(version)
    publisher.publish(f"{name}/{levels}", b"x", qos=0, retain=True)
    assert {message.topic for message in subscriber.barrier()} == {f"{name}/{levels}"}
    late = client(version).subscribed(f"{name}/+/+/+/d/#")
    late.receive(b"x", retain=True)


@leveret_only("RabbitMQ's mapping of topics to routing keys")
def test_37_a_dot_and_a_slash_are_the_same_to_routing(client: Client, name: str) -> None:
    """Lossy as in RabbitMQ by default"""
    peers = [client().subscribed(f"{name}/{rest}") for rest in ("a/b", "a.b", "+/b", "#")]
    publisher = client()
    for topic in ("a.b", "a/b"):
        publisher.publish(f"{name}/{topic}", topic.encode(), qos=0)
        for peer in peers:
            peer.receive(topic.encode())


def test_37_percent_escapes_keep_dots_apart(brief: int) -> None:
    """Setting mqtt.topic_escape"""
    topics = ["a.b", "a/b", "a%2Eb", "a*b", "100%/x", "..", "./."]
    with MqttPeer.open(brief) as everything, MqttPeer.open(brief) as publisher:
        everything.subscribed("#")
        peers = [MqttPeer.open(brief, client_id=f"s{number}") for number in range(len(topics))]
        for peer, topic in zip(peers, topics, strict=True):
            peer.subscribed(topic)
        for topic in topics:
            publisher.publish(topic, topic.encode(), qos=0, retain=True)
        assert [message.topic for message in everything.barrier()] == topics
        for peer, topic in zip(peers, topics, strict=True):
            assert [message.topic for message in peer.barrier()] == [topic]
            peer.close()
        with MqttPeer.open(brief) as late:
            late.subscribe(*(Sub(topic) for topic in topics))
            assert sorted(message.topic for message in late.barrier()) == sorted(topics)
