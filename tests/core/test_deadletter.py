"""Dead-letter headers: the account of deaths, what is kept to the octet, and circles."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.field_values import tables, typed

from leveret.core.fields import Int64, Timestamp, encode_table, split_table
from leveret.core.message import Envelope
from leveret.core.properties import Properties, raw_headers, with_headers
from leveret.core.queue.dead_letter import dead_letter_envelope, is_cycle

OURS = {b"x-death", *(f"x-{which}-death-{what}".encode() for which in ("first", "last") for what in ("reason", "queue", "exchange"))}  # fmt: skip


def envelope(exchange: str = "ex", routing_key: str = "key", **properties: Any) -> Envelope:
    return Envelope.of(exchange, routing_key, Properties(**properties))


def dead_letter(
    message: Envelope,
    queue: str = "q",
    reason: str = "rejected",
    exchange: str = "dlx",
    routing_key: str | None = None,
    now: int = 1000,
) -> Envelope:
    return dead_letter_envelope(
        message, queue=queue, reason=reason, exchange=exchange, routing_key=routing_key, now=now
    )


def headers_of(message: Envelope) -> dict[str, Any]:
    headers = Properties.decode(message.header).headers
    assert headers is not None
    return headers


def deaths(message: Envelope) -> list[tuple[Any, Any, Any]]:
    return [(death["queue"], death["reason"], death["count"]) for death in headers_of(message)["x-death"]]


def revived(message: Envelope) -> Envelope:
    """As the store gives it back."""
    again = Envelope(message.exchange, message.routing_key, message.header)
    again.is_dead_letter = message.is_dead_letter
    return again


def test_the_first_death() -> None:
    # keys in RabbitMQ's order, and of its types
    dead = dead_letter(envelope(expiration="1500"), reason="expired")
    assert (dead.exchange, dead.routing_key, dead.expiration) == ("dlx", "key", None)
    assert dead.is_dead_letter
    expected = {
        "x-death": [
            {
                "count": Int64(1), "reason": "expired", "queue": "q", "time": Timestamp(1000), "exchange": "ex",
                "routing-keys": ["key"], "original-expiration": "1500",
            }
        ],
        "x-first-death-reason": "expired", "x-first-death-queue": "q", "x-first-death-exchange": "ex",
        "x-last-death-reason": "expired", "x-last-death-queue": "q", "x-last-death-exchange": "ex",
    }  # fmt: skip
    assert typed(headers_of(dead)) == typed(expected)
    assert list(headers_of(dead)["x-death"][0]) == list(expected["x-death"][0])


@pytest.mark.parametrize("reason", ["expired", "rejected", "maxlen", "delivery_limit"])
def test_reasons(reason: str) -> None:
    assert deaths(dead_letter(envelope(), reason=reason)) == [("q", reason, 1)]


def test_no_expiration_no_original_expiration() -> None:
    assert "original-expiration" not in headers_of(dead_letter(envelope()))["x-death"][0]


def test_the_same_queue_and_reason_counts() -> None:
    # moved to the front; time, exchange and keys stay those of the first
    first = dead_letter(envelope("e1", "k1", expiration="5"), now=1000)
    second = dead_letter(
        revived(first), queue="other", reason="expired", exchange="e3", routing_key="k3", now=2000
    )
    third = dead_letter(revived(second), now=3000)
    assert deaths(second) == [("other", "expired", 1), ("q", "rejected", 1)]
    assert deaths(third) == [("q", "rejected", 2), ("other", "expired", 1)]
    newest, older = headers_of(third)["x-death"]
    assert typed(newest) == typed(
        {
            "count": Int64(2), "reason": "rejected", "queue": "q", "time": Timestamp(1000), "exchange": "e1",
            "routing-keys": ["k1"], "original-expiration": "5",
        }
    )  # fmt: skip
    assert (older["time"], older["exchange"], older["routing-keys"]) == (2000, "dlx", ["k1"])
    assert type(older["time"]) is Timestamp


def test_another_reason_is_another_entry() -> None:
    twice = dead_letter(dead_letter(envelope(), reason="rejected"), reason="expired")
    assert deaths(twice) == [("q", "expired", 1), ("q", "rejected", 1)]


def test_first_stays_and_last_moves_on() -> None:
    headers = headers_of(
        dead_letter(dead_letter(envelope("e1"), queue="q1", reason="maxlen"), queue="q2", reason="expired")
    )
    assert [headers[f"x-first-death-{what}"] for what in ("reason", "queue", "exchange")] == [
        "maxlen",
        "q1",
        "e1",
    ]
    assert [headers[f"x-last-death-{what}"] for what in ("reason", "queue", "exchange")] == [
        "expired",
        "q2",
        "dlx",
    ]


# What a publisher says of deaths


def test_a_publishers_account_is_replaced() -> None:
    # all headers of a dead letter, published again, must not count on
    dead = dead_letter(dead_letter(envelope()))
    republished = Envelope("ex", "key", dead.header)
    assert deaths(dead) == [("q", "rejected", 2)]
    again = dead_letter(republished, queue="q", reason="expired")
    assert deaths(again) == [("q", "expired", 1)]
    assert headers_of(again)["x-first-death-reason"] == "expired"


@pytest.mark.parametrize(
    "nonsense", [5, "x", None, [], [5, "x"], {"queue": "q"}, [{"count": "many", "queue": "q"}]]
)
def test_a_publishers_nonsense_does_no_harm(nonsense: Any) -> None:
    published = envelope(headers={"x-death": nonsense, "x-first-death-queue": 7})
    dead = dead_letter(published)
    assert deaths(dead) == [("q", "rejected", 1)]
    assert headers_of(dead)["x-first-death-queue"] == "q"
    assert not is_cycle(published, "q", "expired")


# What is kept


def test_properties_are_kept() -> None:
    kept: dict[str, Any] = {
        "content_type": "a/b", "content_encoding": "", "delivery_mode": 2, "priority": 5, "correlation_id": "c",
        "reply_to": "r", "message_id": "m", "timestamp": 5, "type": "t", "user_id": "u", "app_id": "a",
        "cluster_id": "x",
    }  # fmt: skip
    dead = dead_letter(envelope(expiration="9", **kept))
    properties = dead.properties
    assert {name: getattr(properties, name) for name in kept} == kept
    assert properties.expiration is None
    assert (dead.is_persistent, dead.priority) == (True, 5)


def test_other_headers_are_kept_to_the_octet_and_in_order() -> None:
    body = (
        b"\x01zL" + b"\xff" * 8  # would be sent as l if it were encoded anew
        + b"\x07x-deathV" + b"\x01zt\x07" + b"\x01\xffS\x00\x00\x00\x01\xfe" + b"\x01zV"
    )  # fmt: skip
    published = Envelope("", "q", with_headers(Properties(delivery_mode=2).encode(), body))
    pieces = split_table(raw_headers(dead_letter(published).header) or b"")
    before = split_table(body)
    assert [key for key, _ in pieces[: len(before)]] == [key for key, _ in before]
    assert [piece for piece in pieces if piece[0] not in OURS] == [
        piece for piece in before if piece[0] != b"x-death"
    ]


@given(tables, st.integers(1, 3))
def test_any_headers(headers: dict[str, Any], times: int) -> None:
    message = published = Envelope("", "q", with_headers(b"\x10\x00\x02", encode_table(headers)[4:]))
    for _ in range(times):
        message = dead_letter(revived(message))
    assert deaths(message) == [("q", "rejected", times)]
    others = [piece for piece in split_table(raw_headers(message.header) or b"") if piece[0] not in OURS]
    assert others == [
        piece for piece in split_table(raw_headers(published.header) or b"") if piece[0] not in OURS
    ]


# Keys


def test_cc_is_kept_and_on_record() -> None:
    dead = dead_letter(envelope(headers={"CC": ["a", b"\xff"], "mine": 1}))
    assert headers_of(dead)["CC"] == ["a", b"\xff"]
    assert headers_of(dead)["x-death"][0]["routing-keys"] == ["key", "a", b"\xff"]


def test_cc_goes_with_another_key() -> None:
    dead = dead_letter(envelope(headers={"CC": ["a"], "mine": 1}), routing_key="other")
    assert dead.routing_key == "other"
    assert "CC" not in headers_of(dead)
    assert headers_of(dead)["mine"] == 1
    assert headers_of(dead)["x-death"][0]["routing-keys"] == ["key", "a"]


def test_an_empty_other_key_is_one() -> None:
    assert dead_letter(envelope(), routing_key="").routing_key == ""


def test_names_that_are_not_utf8() -> None:
    odd = b"q\xff".decode("utf-8", "surrogateescape")
    message = envelope(odd, odd)
    for count in (1, 2, 3):
        message = dead_letter(revived(message), queue=odd, reason="expired", exchange=odd)
        assert deaths(message) == [(b"q\xff", "expired", count)]
    assert is_cycle(message, odd, "expired")


# Circles of dead-lettering.


def history(*events: tuple[str, str]) -> Envelope:
    message = envelope()
    for queue, reason in events:
        message = dead_letter(revived(message), queue=queue, reason=reason)
    return message


@pytest.mark.parametrize(
    ("events", "target", "expected"),
    [
        ([("a", "expired")], "b", False),
        ([("a", "expired")], "a", True),
        ([("a", "maxlen")], "a", True),
        ([("a", "delivery_limit")], "a", True),
        ([("a", "rejected")], "a", False),
        ([("a", "expired"), ("b", "expired")], "a", True),
        ([("a", "expired"), ("b", "expired")], "c", False),
        ([("a", "expired"), ("b", "maxlen"), ("c", "expired")], "b", True),
        ([("a", "rejected"), ("b", "expired")], "a", False),  # the retry loop
        ([("a", "expired"), ("b", "rejected")], "a", False),
        ([("a", "expired"), ("b", "rejected"), ("c", "expired")], "a", False),
        # A rejection before the circle began does not excuse it.
        ([("a", "rejected"), ("b", "expired"), ("c", "expired")], "b", True),
        # Each round of a retry loop moves its entries to the front.
        ([("a", "rejected"), ("b", "expired")] * 5, "a", False),
        ([("a", "rejected"), ("b", "expired")] * 5, "b", True),
    ],
)  # fmt: skip
def test_circles(events: list[tuple[str, str]], target: str, expected: bool) -> None:
    assert is_cycle(history(*events), target, events[-1][1]) is expected
