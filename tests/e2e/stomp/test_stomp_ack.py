"""ACK, NACK, prefetch, redelivery, UNSUBSCRIBE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from e2e.stomp.stomp_broker import STOMP_REFERENCE, VERSIONS, fault, leveret_only, stomp_reference_differs
from support.server import LeveretServer, Server, poll
from support.stomp_peer import Frame, StompPeer

Open = Callable[..., StompPeer]


def ack(peer: StompPeer, message: Frame, command: str = "ACK", **more: Any) -> None:
    """As each version says it."""
    if peer.version == "1.2":
        peer.ask(command, id=message["ack"], **more)
    elif peer.version == "1.1":
        peer.ask(command, subscription=message["subscription"], message_id=message["message-id"], **more)
    else:
        peer.ask(command, message_id=message["message-id"], **more)


def bodies(messages: list[Frame]) -> list[bytes]:
    return [message.body for message in messages]


def left(stomp: Open, name: str) -> list[tuple[bytes, str]]:
    """What is in the queue: bodies, and whether redelivered; it is empty then."""
    peer = stomp()
    peer.subscribe(f"/queue/{name}", id="left")
    got = []
    try:
        while True:
            got.append(peer.receive(0.1))
    except TimeoutError:
        peer.goodbye()
    return [(message.body, message["redelivered"]) for message in got]


def fill(stomp: Open, name: str, count: int) -> None:
    peer = stomp()
    for number in range(count):
        peer.send("SEND", b"%d" % number, destination=f"/queue/{name}")
    peer.quiet()
    peer.close()


@pytest.mark.parametrize("version", VERSIONS)
def test_auto_is_the_default(stomp: Open, name: str, version: str) -> None:
    peer = stomp(version)
    peer.subscribe(f"/queue/{name}")
    peer.publish(f"/queue/{name}", b"x")
    assert peer.message(b"x")["subscription"] == "s"
    peer.close()
    assert left(stomp, name) == []


@pytest.mark.parametrize("version", VERSIONS)
def test_48_client_is_cumulative(stomp: Open, name: str, version: str) -> None:
    fill(stomp, name, 5)
    peer = stomp(version)
    peer.subscribe(f"/queue/{name}", ack="client")
    messages = peer.messages(5)
    ack(peer, messages[2])
    peer.goodbye()
    assert left(stomp, name) == [(b"3", "true"), (b"4", "true")]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_48_client_individual_is_exactly_one(stomp: Open, name: str, version: str) -> None:
    fill(stomp, name, 4)
    peer = stomp(version)
    peer.subscribe(f"/queue/{name}", ack="client-individual")
    messages = peer.messages(4)
    ack(peer, messages[2])
    ack(peer, messages[0])
    peer.goodbye()
    assert left(stomp, name) == [(b"1", "true"), (b"3", "true")]


@stomp_reference_differs("3.10: it is cumulative over the whole connection")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_48_83_client_is_cumulative_within_its_subscription(stomp: Open, name: str, version: str) -> None:
    fill(stomp, name + "a", 2)
    fill(stomp, name + "b", 2)
    peer = stomp(version)
    peer.subscribe(f"/queue/{name}a", id="a", ack="client")
    first = peer.messages(2)
    peer.subscribe(f"/queue/{name}b", id="b", ack="client")
    second = peer.messages(2)
    assert [message["subscription"] for message in first + second] == ["a", "a", "b", "b"]
    ack(peer, second[1])
    peer.goodbye()
    assert _bodies_of(left(stomp, name + "a")) == [b"0", b"1"]
    assert left(stomp, name + "b") == []


def _bodies_of(entries: list[tuple[bytes, str]]) -> list[bytes]:
    return [body for body, _ in entries]


@pytest.mark.parametrize("how", ["UNSUBSCRIBE", "DISCONNECT", "loss"])
def test_48_83_unacked_messages_return(stomp: Open, name: str, how: str) -> None:
    fill(stomp, name, 3)
    peer = stomp()
    peer.subscribe(f"/queue/{name}", ack="client-individual")
    messages = peer.messages(3)
    ack(peer, messages[1])
    if how == "UNSUBSCRIBE":
        peer.ask("UNSUBSCRIBE", id="s")
    elif how == "DISCONNECT":
        peer.goodbye()
    else:
        peer.close()
    if how == "UNSUBSCRIBE" and STOMP_REFERENCE:
        peer.goodbye()  # 3.10 keeps them until the end of the connection
    got: list[tuple[bytes, str]] = []

    def all_back() -> bool:
        got.extend(left(stomp, name))
        return len(got) == 2

    poll(all_back, "messages that return")
    assert got == [(b"0", "true"), (b"2", "true")]


@stomp_reference_differs("3.10: takes it silently")
def test_83_the_ack_id_of_1_2_is_good_once(stomp: Open, name: str) -> None:
    fill(stomp, name, 1)
    peer = stomp()
    peer.subscribe(f"/queue/{name}", ack="client-individual")
    message = peer.message()
    ack(peer, message)
    peer.send("ACK", id=message["ack"], receipt="again")
    peer.expect("ERROR", receipt_id="again")
    peer.expect_close()


@pytest.mark.parametrize("command", ["ACK", "NACK"])
def test_unknown_ids_are_errors(stomp: Open, command: str) -> None:
    peer = stomp("1.2")
    peer.send(command, id="nonsense")
    fault(peer, "Invalid header", f'"{command}" must include a valid "id" header')
    peer = stomp("1.2")
    peer.send(command)
    fault(peer, "Missing header", f'"{command}" must include the "id" header')
    peer = stomp("1.1")
    peer.send(command, message_id="nonsense", subscription="s")
    fault(peer, "Invalid header", f'"{command}" must include a valid "message-id" header')


@leveret_only("3.10 takes it silently")
def test_83_ack_of_an_auto_subscription_is_an_error(stomp: Open, name: str) -> None:
    fill(stomp, name, 1)
    peer = stomp("1.1")
    peer.subscribe(f"/queue/{name}")
    message = peer.message()
    peer.send("ACK", subscription="s", message_id=message["message-id"])
    peer.expect("ERROR")
    peer.expect_close()


# -- NACK


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_nack_requeues(stomp: Open, name: str, version: str) -> None:
    fill(stomp, name, 1)
    peer = stomp(version)
    peer.subscribe(f"/queue/{name}", ack="client-individual")
    first = peer.message(b"0", redelivered="false")
    ack(peer, first, "NACK")
    again = peer.message(b"0", redelivered="true")
    assert again["message-id"] != first["message-id"]
    ack(peer, again)


def test_nack_with_requeue_false_drops(stomp: Open, name: str) -> None:
    fill(stomp, name, 1)
    peer = stomp()
    peer.subscribe(f"/queue/{name}", ack="client-individual")
    ack(peer, peer.message(b"0"), "NACK", requeue="false")
    peer.goodbye()
    assert left(stomp, name) == []


def test_nack_dead_letters(stomp: Open, name: str) -> None:
    dead = stomp()
    dead.subscribe(f"/queue/{name}-dead")
    peer = stomp()
    peer.ask(
        "SUBSCRIBE",
        destination=f"/queue/{name}",
        id="s",
        ack="client-individual",
        headers={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{name}-dead"},
    )
    peer.publish(f"/queue/{name}", b"x", color="blue")
    ack(peer, peer.message(b"x"), "NACK", requeue="false")
    message = dead.message(b"x")
    assert message["color"] == "blue"
    assert message["redelivered"] == "false"


def test_nack_in_client_mode_is_cumulative(stomp: Open, name: str) -> None:
    """As ACK is."""
    fill(stomp, name, 3)
    peer = stomp()
    peer.subscribe(f"/queue/{name}", ack="client")
    messages = peer.messages(3)
    ack(peer, messages[1], "NACK", requeue="false")
    peer.goodbye()
    assert left(stomp, name) == [(b"2", "true")]


@leveret_only("settings of its own")
def test_default_nack_requeue_is_a_setting(server: Callable[..., LeveretServer]) -> None:
    mine = server(settings={"LEVERET_STOMP_DEFAULT_NACK_REQUEUE": "false"})
    with StompPeer.open(mine.ports["stomp"]) as peer:
        peer.subscribe("/queue/q", ack="client-individual")
        peer.publish("/queue/q", b"x")
        ack(peer, peer.message(b"x"), "NACK")
        peer.quiet()
        peer.nothing()
        peer.publish("/queue/q", b"y")
        ack(peer, peer.message(b"y"), "NACK", requeue="true")
        peer.message(b"y", redelivered="true")


# -- prefetch


@pytest.mark.parametrize("mode", ["client", "client-individual"])
def test_prefetch_count(stomp: Open, name: str, mode: str) -> None:
    fill(stomp, name, 6)
    peer = stomp()
    peer.ask("SUBSCRIBE", destination=f"/queue/{name}", id="s", ack=mode, prefetch_count="2")
    first = peer.messages(2)
    peer.nothing()
    ack(peer, first[1])
    assert bodies(peer.messages(2 if mode == "client" else 1)) == (
        [b"2", b"3"] if mode == "client" else [b"2"]
    )
    peer.nothing()


def test_prefetch_does_not_hold_for_auto(stomp: Open, name: str) -> None:
    fill(stomp, name, 6)
    peer = stomp()
    peer.ask("SUBSCRIBE", destination=f"/queue/{name}", id="s", prefetch_count="2")
    assert len(peer.messages(6)) == 6


@leveret_only("3.10: turns depend on when its limiter wakes up")
def test_consumers_take_turns_and_x_priority_goes_first(stomp: Open, name: str) -> None:
    one, other = stomp(), stomp()
    for peer in (one, other):
        peer.subscribe(f"/queue/{name}", ack="client-individual", prefetch_count="10")
    fill(stomp, name, 4)
    assert sorted(bodies(one.messages(2)) + bodies(other.messages(2))) == [b"0", b"1", b"2", b"3"]
    first = stomp()
    first.subscribe(f"/queue/{name}", ack="client-individual", prefetch_count="2", x_priority="5")
    fill(stomp, name, 3)
    assert bodies(first.messages(2)) == [b"0", b"1"]


# -- SUBSCRIBE, UNSUBSCRIBE


def test_a_duplicate_id_is_an_error(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}", id="a")
    stomper.send("SUBSCRIBE", destination=f"/queue/{name}", id="a")
    fault(stomper, "Duplicated subscription identifier", "A subscription identified by 'T_a' already exists.")


def test_unsubscribe(stomp: Open, name: str) -> None:
    peer = stomp()
    peer.subscribe(f"/queue/{name}", id="a")
    peer.ask("UNSUBSCRIBE", id="a")
    peer.publish(f"/queue/{name}", b"x")
    peer.quiet()
    peer.subscribe(f"/queue/{name}", id="a")
    peer.message(b"x", subscription="a")


def test_unsubscribe_of_1_0_may_name_the_destination(stomp: Open, name: str) -> None:
    peer = stomp("1.0")
    peer.ask("SUBSCRIBE", destination=f"/queue/{name}")
    peer.publish(f"/queue/{name}", b"x")
    assert "subscription" not in peer.message(b"x")
    peer.ask("UNSUBSCRIBE", destination=f"/queue/{name}")
    peer.publish(f"/queue/{name}", b"y")
    peer.quiet()


def test_unsubscribe_of_an_unknown_id(stomper: StompPeer) -> None:
    stomper.send("UNSUBSCRIBE", id="zz")
    fault(stomper, "No subscription found", "UNSUBSCRIBE must refer to an existing subscription.", "id='zz'")


@stomp_reference_differs("3.10: takes 1.1 and 1.2 without id")
@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_subscribe_needs_an_id(stomp: Open, name: str, version: str) -> None:
    peer = stomp(version)
    peer.send("SUBSCRIBE", destination=f"/queue/{name}", receipt="r")
    frame = peer.expect("ERROR", receipt_id="r")
    assert "id" in frame["message"] + frame.body.decode()
    peer.expect_close()


def test_a_bad_ack_mode_or_prefetch(stomp: Open, name: str) -> None:
    for header, value in (("ack", "sometimes"), ("prefetch-count", "many"), ("prefetch-count", "-1")):
        peer = stomp()
        peer.send("SUBSCRIBE", destination=f"/queue/{name}", id="a", headers={header: value})
        if not STOMP_REFERENCE or value != "-1":
            peer.expect("ERROR")
        if not STOMP_REFERENCE:
            peer.expect_close()


# -- 85: the server cancels


def test_85_a_deleted_queue_cancels_the_subscription(stomp: Open, shared: Server, name: str) -> None:
    """RabbitMQ's exception to the rule that ERROR ends the connection; clients rely on it."""
    peer = stomp()
    peer.subscribe(f"/queue/{name}", id="doomed")
    peer.subscribe(f"/queue/{name}-other", id="alive")
    with shared.peer() as amqp:
        amqp.send(1, "queue.delete", queue=name)
        amqp.expect(1, "queue.delete-ok")
        amqp.goodbye()
    frame = peer.expect("ERROR", message="Server cancelled subscription", subscription="doomed")
    assert "The server has canceled a subscription." in frame.body.decode()
    peer.publish(f"/queue/{name}-other", b"x")
    peer.message(b"x", subscription="alive")
    if not STOMP_REFERENCE:  # 3.10 believes that it has declared it
        peer.subscribe(f"/queue/{name}", id="doomed")  # the id is free again
        peer.publish(f"/queue/{name}", b"y")
        peer.message(b"y", subscription="doomed")
    peer.goodbye()


def test_exclusive_subscriptions(stomp: Open, name: str) -> None:
    peer, other = stomp(), stomp()
    peer.subscribe(f"/queue/{name}")
    other.send("SUBSCRIBE", destination=f"/queue/{name}", id="a", exclusive="true")
    if STOMP_REFERENCE:
        return  # 3.10: ignores it for /queue/, or makes the queue exclusive
    other.expect("ERROR")
    other.expect_close()
