"""Receipts, and transactions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from e2e.stomp.stomp_broker import STOMP_REFERENCE, fault, leveret_only, stomp_reference_differs
from support.amqp_peer import Peer
from support.stomp_peer import StompPeer

Open = Callable[..., StompPeer]


# -- 47, 82


@stomp_reference_differs("3.10: confirms come after what was asked for later")
def test_47_receipts_come_in_the_order_of_requests(stomper: StompPeer, name: str) -> None:
    """Persistent SENDs are confirmed later than others are done; nobody overtakes."""
    frames, expected = b"", []
    for number in range(60):
        receipt = f"n{number}"
        expected.append(receipt)
        if number % 3 == 2:
            frames += stomper.encode("SUBSCRIBE", destination=f"/queue/{name}", id=receipt, receipt=receipt,
                                     ack="client", prefetch_count="1")  # fmt: skip
        else:
            persistent = "true" if number % 2 else "false"
            frames += stomper.encode(
                "SEND", b"x", destination=f"/queue/{name}", receipt=receipt, persistent=persistent
            )
    stomper.send_raw(frames + stomper.encode("DISCONNECT", receipt="last"))
    got: list[str] = []
    while not got or got[-1] != "last":
        frame = stomper.receive()
        if frame.command == "RECEIPT":
            got.append(frame["receipt-id"])
    assert got == [*expected, "last"]
    stomper.expect_close()


@pytest.mark.parametrize(
    ("command", "headers"),
    [
        ("SEND", {"destination": "/queue/{name}"}),
        ("SUBSCRIBE", {"destination": "/queue/{name}", "id": "s"}),
        ("BEGIN", {"transaction": "t"}),
        ("DISCONNECT", {}),
    ],
)
def test_47_82_every_command_has_a_receipt(
    stomper: StompPeer, name: str, command: str, headers: dict[str, str]
) -> None:
    stomper.ask(command, headers={key: value.format(name=name) for key, value in headers.items()})


def test_47_82_receipts_of_the_other_commands(stomper: StompPeer, name: str) -> None:
    stomper.subscribe(f"/queue/{name}", ack="client-individual")
    stomper.publish(f"/queue/{name}")
    stomper.ask("NACK", id=stomper.message()["ack"])
    stomper.ask("ACK", id=stomper.message()["ack"])
    stomper.ask("BEGIN", transaction="t")
    stomper.ask("COMMIT", transaction="t")
    stomper.ask("BEGIN", transaction="t")
    stomper.ask("ABORT", transaction="t")
    stomper.ask("UNSUBSCRIBE", id="s")


@pytest.mark.parametrize(
    ("command", "headers"),
    [
        ("SEND", {"destination": "/nonsense/x"}),
        ("SEND", {"destination": "/exchange/missing/x"}),
        ("SUBSCRIBE", {"destination": "/amq/queue/missing", "id": "s"}),
        ("UNSUBSCRIBE", {"id": "zz"}),
        ("ACK", {"id": "zz"}),
        ("COMMIT", {"transaction": "zz"}),
        ("NONSENSE", {}),
    ],
)
def test_47_82_the_error_of_a_request_carries_its_receipt_id(
    stomper: StompPeer, command: str, headers: dict[str, str]
) -> None:
    stomper.send(command, headers=headers | {"receipt": "mine"})
    if STOMP_REFERENCE:
        stomper.expect("ERROR")  # 3.10: only for what the core refuses
    else:
        stomper.expect("ERROR", receipt_id="mine")


@leveret_only("3.10: nothing at all")
def test_47_a_rejected_send_is_an_error_with_receipt_id(
    stomp: Open, connect: Callable[..., Peer], name: str
) -> None:
    connect().declare(1, name, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    peer = stomp()
    peer.publish(f"/amq/queue/{name}", b"fits")
    peer.send("SEND", b"does not", destination=f"/amq/queue/{name}", receipt="mine")
    peer.expect("ERROR", receipt_id="mine")
    peer.expect_close()


# -- transactions


def test_commit_sends(stomp: Open, name: str) -> None:
    peer, reader = stomp(), stomp()
    reader.subscribe(f"/queue/{name}")
    peer.ask("BEGIN", transaction="t")
    for number in range(3):
        peer.send("SEND", b"%d" % number, destination=f"/queue/{name}", transaction="t")
    peer.quiet()
    reader.nothing(0.05)
    peer.ask("COMMIT", transaction="t")
    assert [message.body for message in reader.messages(3)] == [b"0", b"1", b"2"]


def test_abort_forgets(stomp: Open, name: str) -> None:
    peer, reader = stomp(), stomp()
    reader.subscribe(f"/queue/{name}")
    peer.ask("BEGIN", transaction="t")
    peer.send("SEND", b"no", destination=f"/queue/{name}", transaction="t")
    peer.ask("ABORT", transaction="t")
    peer.publish(f"/queue/{name}", b"yes")
    reader.message(b"yes")


def test_a_lost_connection_aborts(stomp: Open, name: str) -> None:
    peer, reader = stomp(), stomp()
    reader.subscribe(f"/queue/{name}")
    peer.ask("BEGIN", transaction="t")
    peer.send("SEND", b"no", destination=f"/queue/{name}", transaction="t")
    peer.close()
    reader.nothing()


def test_acks_are_part_of_a_transaction(stomp: Open, name: str) -> None:
    peer = stomp()
    for number in range(2):
        peer.publish(f"/queue/{name}", b"%d" % number)
    peer.subscribe(f"/queue/{name}", ack="client-individual")
    first, second = peer.messages(2)
    peer.ask("BEGIN", transaction="kept")
    peer.send("ACK", id=first["ack"], transaction="kept")
    peer.ask("COMMIT", transaction="kept")
    peer.ask("BEGIN", transaction="lost")
    peer.send("ACK", id=second["ack"], transaction="lost")
    peer.ask("ABORT", transaction="lost")
    peer.goodbye()
    other = stomp()
    other.subscribe(f"/queue/{name}")
    other.message(b"1", redelivered="true")
    other.quiet()


def test_two_transactions_at_once(stomp: Open, name: str) -> None:
    peer = stomp()
    peer.subscribe(f"/queue/{name}")
    for transaction in ("a", "b"):
        peer.ask("BEGIN", transaction=transaction)
    for transaction in ("a", "b"):
        peer.send("SEND", transaction.encode(), destination=f"/queue/{name}", transaction=transaction)
    peer.ask("COMMIT", transaction="b")
    peer.message(b"b")
    peer.ask("COMMIT", transaction="a")
    peer.message(b"a")


def test_transaction_errors(stomp: Open, name: str) -> None:
    for command in ("COMMIT", "ABORT"):
        peer = stomp()
        peer.send(command, transaction="t")
        fault(peer, "Bad transaction", 'Invalid transaction identifier: "t"')
    for command in ("BEGIN", "COMMIT", "ABORT"):
        peer = stomp()
        peer.send(command)
        fault(peer, "Missing transaction", f"\"{command}\" must include a 'transaction' header")
    peer = stomp()
    peer.send("SEND", destination=f"/queue/{name}", transaction="t")
    fault(peer, "Bad transaction")


@stomp_reference_differs("3.10: begins it anew")
def test_begin_twice_is_an_error(stomper: StompPeer) -> None:
    stomper.send("BEGIN", transaction="t")
    stomper.send("BEGIN", transaction="t")
    stomper.expect("ERROR")
    stomper.expect_close()
