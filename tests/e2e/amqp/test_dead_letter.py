"""Dead-lettering: reasons, x-death, keys, cycles, what is kept of a message."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.amqp_peer import Event, Peer
from support.amqp_wire import Typed
from support.server import poll, reference_differs


class Graveyard:
    """A queue that dead-letters to another through an exchange of its own."""

    def __init__(self, peer: Peer, name: str) -> None:
        self.peer, self.name = peer, name
        self.queue, self.dead, self.exchange = name, f"{name}-dead", f"{name}-dlx"
        peer.rpc(1, "exchange.declare", exchange=self.exchange, type="fanout")
        peer.declare(1, self.dead)
        peer.rpc(1, "queue.bind", queue=self.dead, exchange=self.exchange)
        peer.confirm()

    def declare(self, **arguments: Any) -> str:
        """The queue, with these x-arguments (with _ for -)."""
        arguments = {"dead_letter_exchange": self.exchange} | arguments
        return self.peer.declare(
            1, self.queue, arguments={f"x-{key.replace('_', '-')}": value for key, value in arguments.items()}
        )

    def publish(self, body: bytes = b"x", **properties: Any) -> None:
        self.peer.publish(1, "", self.queue, body, **properties)
        self.peer.expect(1, "basic.ack", "basic.nack")

    def reject(self, queue: str | None = None) -> None:
        event = poll(lambda: self.peer.get(1, queue or self.queue, no_ack=False), "nothing to reject")
        self.peer.send(1, "basic.reject", delivery_tag=event.delivery_tag)

    def take(self, queue: str | None = None) -> Event:
        return poll(lambda: self.peer.get(1, queue or self.dead), "nothing has died")


@pytest.fixture
def graveyard(peer: Peer, name: str) -> Graveyard:
    return Graveyard(peer, name)


def deaths(event: Event) -> list[tuple[str, str, int]]:
    return [(death["queue"], death["reason"], death["count"]) for death in event.headers["x-death"]]


@pytest.mark.parametrize("method", ["basic.reject", "basic.nack", "basic.nack multiple"])
def test_rejected(graveyard: Graveyard, method: str) -> None:
    graveyard.declare()
    graveyard.publish(b"r")
    assert graveyard.peer.get(1, graveyard.queue, no_ack=False)
    graveyard.peer.send(
        1, method.split()[0], delivery_tag=1, **({"multiple": True} if "multiple" in method else {})
    )
    event = graveyard.take()
    assert event.body == b"r"
    assert deaths(event) == [(graveyard.queue, "rejected", 1)]


def test_x_death(graveyard: Graveyard) -> None:
    graveyard.declare()
    before = int(time.time())
    graveyard.publish(headers={"mine": 1})
    graveyard.reject()
    event = graveyard.take()
    (death,) = event.headers["x-death"]
    assert before <= death.pop("time") <= time.time()
    assert death == {
        "count": 1, "reason": "rejected", "queue": graveyard.queue, "exchange": "", "routing-keys": [graveyard.queue],
    }  # fmt: skip
    assert event.headers["mine"] == 1
    assert (event.exchange, event.routing_key) == (graveyard.exchange, graveyard.queue)
    assert event.headers["x-first-death-reason"] == "rejected"
    assert event.headers["x-first-death-queue"] == graveyard.queue
    assert event.headers["x-first-death-exchange"] == ""


@reference_differs("3.10: no x-last-death-* headers")
def test_x_last_death(graveyard: Graveyard) -> None:
    graveyard.declare()
    graveyard.publish()
    graveyard.reject()
    headers = graveyard.take().headers
    assert headers["x-last-death-reason"] == "rejected"
    assert headers["x-last-death-queue"] == graveyard.queue
    assert headers["x-last-death-exchange"] == ""


def test_dead_letters_are_not_redelivered(graveyard: Graveyard) -> None:
    graveyard.declare()
    graveyard.publish()
    event = graveyard.peer.get(1, graveyard.queue, no_ack=False)
    assert event is not None
    graveyard.peer.send(1, "basic.nack", delivery_tag=event.delivery_tag, requeue=True)
    graveyard.reject()
    assert graveyard.take().redelivered is False


@pytest.mark.parametrize("by", ["queue", "message"])
def test_expired(graveyard: Graveyard, by: str) -> None:
    graveyard.declare(**({"message_ttl": 20} if by == "queue" else {}))
    graveyard.publish(b"e", **({"expiration": "20"} if by == "message" else {}))
    event = graveyard.take()
    assert deaths(event) == [(graveyard.queue, "expired", 1)]
    assert "expiration" not in event.properties
    original = event.headers["x-death"][0].get("original-expiration")
    assert original == ("20" if by == "message" else None)


def test_a_long_expiration_is_removed_too(graveyard: Graveyard) -> None:
    # so that it does not expire in the dead-letter queue
    graveyard.declare()
    graveyard.publish(expiration="60000")
    graveyard.reject()
    event = graveyard.take()
    assert "expiration" not in event.properties
    assert event.headers["x-death"][0]["original-expiration"] == "60000"


def test_maxlen(graveyard: Graveyard) -> None:
    # the old head goes
    graveyard.declare(max_length=1)
    for body in (b"1", b"2", b"3"):
        graveyard.publish(body)
    for body in (b"1", b"2"):
        event = graveyard.take()
        assert event.body == body
        assert deaths(event) == [(graveyard.queue, "maxlen", 1)]


def test_maxlen_by_bytes(graveyard: Graveyard) -> None:
    # the reason is maxlen here, too
    graveyard.declare(max_length_bytes=5)
    for body in (b"1111", b"2222"):
        graveyard.publish(body)
    event = graveyard.take()
    assert event.body == b"1111"
    assert deaths(event) == [(graveyard.queue, "maxlen", 1)]


def test_reject_publish_dlx(graveyard: Graveyard) -> None:
    # the new one dies
    graveyard.declare(max_length=1, overflow="reject-publish-dlx")
    for body in (b"1", b"2"):
        graveyard.publish(body)
    event = graveyard.take()
    assert event.body == b"2"
    assert deaths(event) == [(graveyard.queue, "maxlen", 1)]


def test_reject_publish_does_not_dead_letter(graveyard: Graveyard) -> None:
    graveyard.declare(max_length=1, overflow="reject-publish")
    for body in (b"1", b"2"):
        graveyard.publish(body)
    graveyard.peer.barrier(1, graveyard.queue)
    assert graveyard.peer.get(1, graveyard.dead) is None


def test_purge_and_delete_do_not_dead_letter(graveyard: Graveyard) -> None:
    graveyard.declare()
    graveyard.publish()
    graveyard.peer.rpc(1, "queue.purge", queue=graveyard.queue)
    graveyard.publish()
    graveyard.peer.rpc(1, "queue.delete", queue=graveyard.queue)
    graveyard.peer.barrier()
    assert graveyard.peer.get(1, graveyard.dead) is None


def test_delivery_limit(graveyard: Graveyard) -> None:
    graveyard.peer.declare(
        1, graveyard.queue, durable=True,
        arguments={
            "x-queue-type": "quorum", "x-delivery-limit": 1, "x-dead-letter-exchange": graveyard.exchange,
        },
    )  # fmt: skip
    graveyard.publish()
    for _ in range(2):
        event = poll(lambda: graveyard.peer.get(1, graveyard.queue, no_ack=False), "not delivered again")
        graveyard.peer.send(1, "basic.reject", delivery_tag=event.delivery_tag, requeue=True)
    assert deaths(graveyard.take()) == [(graveyard.queue, "delivery_limit", 1)]


# Where it goes


def test_its_own_key_and_a_topic(peer: Peer, name: str) -> None:
    peer.rpc(1, "exchange.declare", exchange=name, type="topic")
    peer.declare(1, f"{name}-dead")
    peer.rpc(1, "queue.bind", queue=f"{name}-dead", exchange=name, routing_key="a.*")
    peer.declare(1, name, arguments={"x-dead-letter-exchange": name, "x-message-ttl": 0})
    peer.rpc(1, "queue.bind", queue=name, exchange="amq.direct", routing_key="a.b")
    peer.publish(1, "amq.direct", "a.b", b"x")
    event = poll(lambda: peer.get(1, f"{name}-dead"), "nothing has died")
    assert (event.exchange, event.routing_key) == (name, "a.b")
    assert event.headers["x-death"][0]["exchange"] == "amq.direct"
    assert event.headers["x-death"][0]["routing-keys"] == ["a.b"]


def test_another_key(graveyard: Graveyard) -> None:
    graveyard.declare(dead_letter_routing_key="other")
    graveyard.publish()
    graveyard.reject()
    event = graveyard.take()
    assert event.routing_key == "other"
    assert event.headers["x-death"][0]["routing-keys"] == [graveyard.queue]


def test_the_default_exchange(peer: Peer, name: str) -> None:
    # "" is the default exchange
    peer.declare(1, f"{name}-dead")
    peer.declare(
        1,
        name,
        arguments={
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": f"{name}-dead",
            "x-max-length": 0,
        },
    )
    peer.publish(1, "", name, b"x")
    assert poll(lambda: peer.get(1, f"{name}-dead"), "nothing has died").exchange == ""


def test_a_missing_exchange(peer: Peer, name: str) -> None:
    # silently dropped
    peer.declare(1, name, arguments={"x-dead-letter-exchange": f"{name}-missing", "x-message-ttl": 0})
    peer.publish(1, "", name, b"x")
    poll(lambda: peer.counts(1, name)[0] == 0, "not expired")
    peer.barrier()


def test_cc_is_kept_without_another_key(graveyard: Graveyard) -> None:
    peer = graveyard.peer
    peer.rpc(1, "exchange.declare", exchange=f"{graveyard.name}-direct", type="direct")
    for key in ("cc", "bcc"):
        peer.declare(1, f"{graveyard.name}-{key}")
        peer.rpc(
            1,
            "queue.bind",
            queue=f"{graveyard.name}-{key}",
            exchange=f"{graveyard.name}-direct",
            routing_key=key,
        )
    graveyard.declare(dead_letter_exchange=f"{graveyard.name}-direct")
    graveyard.publish(headers={"CC": ["cc"], "BCC": ["bcc"]})
    graveyard.reject()
    event = graveyard.take(f"{graveyard.name}-cc")
    assert event.headers["CC"] == ["cc"]
    assert event.headers["x-death"][0]["routing-keys"] == [graveyard.queue, "cc"]
    assert "BCC" not in event.headers


def test_cc_is_dropped_with_another_key(graveyard: Graveyard) -> None:
    peer = graveyard.peer
    direct = f"{graveyard.name}-direct"
    peer.rpc(1, "exchange.declare", exchange=direct, type="direct")
    for key in ("cc", "other"):
        peer.declare(1, f"{graveyard.name}-{key}")
        peer.rpc(1, "queue.bind", queue=f"{graveyard.name}-{key}", exchange=direct, routing_key=key)
    graveyard.declare(dead_letter_exchange=direct, dead_letter_routing_key="other")
    graveyard.publish(headers={"CC": ["cc"]})
    graveyard.reject()
    event = graveyard.take(f"{graveyard.name}-other")
    assert event.headers["x-death"][0]["routing-keys"] == [graveyard.queue, "cc"]
    assert peer.get(1, f"{graveyard.name}-cc") is None


def test_properties_are_kept(graveyard: Graveyard) -> None:
    graveyard.declare()
    properties: dict[str, Any] = {
        "content_type": "a/b", "delivery_mode": 2, "priority": 5, "correlation_id": "c", "reply_to": "r",
        "message_id": "m", "timestamp": 5, "type": "t", "user_id": "guest", "app_id": "a",
    }  # fmt: skip
    graveyard.publish(**properties)
    graveyard.reject()
    event = graveyard.take()
    assert {key: value for key, value in event.properties.items() if key != "headers"} == properties


def test_order_is_kept(graveyard: Graveyard) -> None:
    graveyard.declare(message_ttl=50)
    for number in range(20):
        graveyard.publish(b"%d" % number)
    assert [graveyard.take().body for _ in range(20)] == [b"%d" % number for number in range(20)]


# Dying again


def test_dying_again_counts(graveyard: Graveyard) -> None:
    # rejected messages may go round for ever
    peer = graveyard.peer
    peer.declare(
        1, f"{graveyard.name}-retry",
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard.queue, "x-message-ttl": 10},
    )  # fmt: skip
    graveyard.declare(dead_letter_exchange="", dead_letter_routing_key=f"{graveyard.name}-retry")
    graveyard.publish()
    graveyard.reject()
    first = poll(lambda: peer.get(1, graveyard.queue, no_ack=False), "not back")
    assert deaths(first) == [(f"{graveyard.name}-retry", "expired", 1), (graveyard.queue, "rejected", 1)]
    time_of = {death["queue"]: death["time"] for death in first.headers["x-death"]}
    peer.send(1, "basic.reject", delivery_tag=first.delivery_tag)
    for round_ in (2, 3):
        again = poll(lambda: peer.get(1, graveyard.queue, no_ack=False), "not back again")
        assert deaths(again) == [
            (f"{graveyard.name}-retry", "expired", round_),
            (graveyard.queue, "rejected", round_),
        ]
        assert again.headers["x-first-death-queue"] == graveyard.queue
        assert again.headers["x-first-death-reason"] == "rejected"
        assert {death["queue"]: death["time"] for death in again.headers["x-death"]} == time_of
        peer.send(1, "basic.reject", delivery_tag=again.delivery_tag)


def test_the_same_queue_for_another_reason_is_another_entry(graveyard: Graveyard) -> None:
    peer = graveyard.peer
    graveyard.declare(dead_letter_exchange="", dead_letter_routing_key=f"{graveyard.name}-back")
    peer.declare(
        1, f"{graveyard.name}-back",
        arguments={
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard.queue, "x-message-ttl": 0,
        },
    )  # fmt: skip
    graveyard.publish(expiration="100000")
    graveyard.reject()
    event = poll(lambda: peer.get(1, graveyard.queue, no_ack=False), "not back")
    assert deaths(event)[0][1:] == ("expired", 1)
    assert deaths(event)[1] == (graveyard.queue, "rejected", 1)


def test_a_cycle_without_a_rejection_is_cut(graveyard: Graveyard) -> None:
    peer = graveyard.peer
    graveyard.declare(dead_letter_exchange="", dead_letter_routing_key=f"{graveyard.name}-2", message_ttl=5)
    peer.declare(
        1, f"{graveyard.name}-2",
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": graveyard.queue, "x-message-ttl": 5},
    )  # fmt: skip
    graveyard.publish()
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 0.1:
        counts = peer.counts(1, graveyard.queue)[0] + peer.counts(1, f"{graveyard.name}-2")[0]
        if counts:
            quiet_since = time.monotonic()


def test_a_queue_that_dead_letters_to_itself(peer: Peer, name: str) -> None:
    peer.declare(
        1,
        name,
        arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": name, "x-message-ttl": 5},
    )
    peer.publish(1, "", name, b"x")
    poll(lambda: peer.counts(1, name)[0] == 0, "goes round")
    peer.declare(
        1, f"{name}-r", arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}-r"}
    )
    peer.publish(1, "", f"{name}-r", b"y")
    for count in range(4):
        event = poll(lambda: peer.get(1, f"{name}-r", no_ack=False), "rejected messages may go round")
        assert [death["count"] for death in event.headers.get("x-death", [])] == ([count] if count else [])
        peer.send(1, "basic.reject", delivery_tag=event.delivery_tag)


@reference_differs("3.10: counts on from what the publisher sent")
def test_a_publishers_x_death_is_not_believed(graveyard: Graveyard) -> None:
    graveyard.declare()
    forged = [
        {
            "count": Typed("l", 40), "reason": "rejected", "queue": graveyard.queue, "exchange": "",
            "time": Typed("T", 1), "routing-keys": [graveyard.queue],
        }
    ]  # fmt: skip
    graveyard.publish(headers={"x-death": forged})
    graveyard.reject()
    assert deaths(graveyard.take())[0] == (graveyard.queue, "rejected", 1)


def test_dead_lettering_is_confirmed_to_the_publisher_before_it_happens(graveyard: Graveyard) -> None:
    graveyard.declare(message_ttl=0)
    graveyard.publish()  # acked though it dies at once
    graveyard.take()
