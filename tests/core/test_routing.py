"""From an exchange to queues: every way there is, each queue once."""

from __future__ import annotations

from typing import Any

import pytest
from support.topology import FakeBroker, envelope, names

from leveret.core.errors import InvalidArgument
from leveret.core.fields import ByteArray
from leveret.core.routing import Routed, route, routing_keys
from leveret.core.session import Session


@pytest.fixture
def session() -> Session:
    session = FakeBroker().session()
    for name in ("q1", "q2", "q3"):
        session.queue_declare(name)
    return session


def routed(session: Session, exchange: str, key: str = "", **properties: Any) -> Routed:
    return route(session.vhost.exchanges[exchange], envelope(exchange, key, **properties))


def reaches(session: Session, exchange: str, key: str = "", **properties: Any) -> list[str]:
    queues = routed(session, exchange, key, **properties).queues
    assert len(set(queues)) == len(queues)
    return names(queues)


def test_default_exchange_routes_by_name(session: Session) -> None:
    found = routed(session, "", "q1")
    assert (names(found.queues), found.is_stable) == (["q1"], True)
    assert routed(session, "", "nope").queues == ()


def test_each_queue_once_however_often_it_is_bound(session: Session) -> None:
    for key in ("a.*", "a.#", "#", "a.b"):
        session.queue_bind("q1", "amq.topic", key)
    session.queue_bind("q2", "amq.topic", "a.b")
    session.queue_bind("q2", "amq.topic", "a.b", {"x": 1})
    assert reaches(session, "amq.topic", "a.b") == ["q1", "q2"]
    assert reaches(session, "amq.topic", "") == ["q1"]


def test_what_may_be_remembered(session: Session) -> None:
    session.queue_bind("q1", "amq.headers", "", {"h": 1})
    assert not routed(session, "amq.headers", "k").is_stable
    for exchange in ("amq.direct", "amq.fanout", "amq.topic", ""):
        assert routed(session, exchange, "k").is_stable
    session.exchange_bind("amq.headers", "amq.fanout")
    assert not routed(session, "amq.fanout", "k").is_stable
    session.exchange_unbind("amq.headers", "amq.fanout")
    assert routed(session, "amq.fanout", "k").is_stable


def test_exchange_to_exchange(session: Session) -> None:
    session.exchange_declare("x", "direct", internal=True)
    session.exchange_bind("x", "amq.topic", "a.#")
    session.exchange_bind("x", "amq.fanout")
    session.exchange_bind("amq.topic", "amq.fanout")
    session.queue_bind("q1", "x", "a.b")
    session.queue_bind("q2", "amq.topic", "a.b")
    session.queue_bind("q2", "amq.fanout")
    assert reaches(session, "amq.topic", "a.b") == ["q1", "q2"]
    assert reaches(session, "amq.topic", "a.c") == []
    assert reaches(session, "amq.fanout", "a.b") == ["q1", "q2"]


def test_cycles_end(session: Session) -> None:
    for name in ("a", "b", "c"):
        session.exchange_declare(name, "fanout")
    for source, destination in (("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")):
        session.exchange_bind(destination, source)
    session.queue_bind("q1", "c")
    session.queue_bind("q2", "b")
    assert reaches(session, "a") == ["q1", "q2"]
    assert reaches(session, "c") == ["q1", "q2"]


def test_alternate_exchange_takes_what_leads_nowhere(session: Session) -> None:
    session.exchange_declare("ae", "fanout")
    session.exchange_declare("x", "direct", arguments={"alternate-exchange": "ae"})
    session.queue_bind("q1", "x", "k")
    session.queue_bind("q2", "ae")
    assert reaches(session, "x", "k") == ["q1"]
    found = routed(session, "x", "other")
    assert (names(found.queues), found.is_stable) == (["q2"], True)


def test_alternate_exchanges_recursively_and_in_a_loop(session: Session) -> None:
    for name, alternate in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "d"), ("e", "nope"), ("f", "")):
        session.exchange_declare(name, "direct", arguments={"alternate-exchange": alternate})
    session.queue_bind("q1", "c", "k")
    assert reaches(session, "a", "k") == ["q1"]
    assert reaches(session, "a", "lost") == []
    assert reaches(session, "d", "k") == []
    assert reaches(session, "e", "k") == []  # a missing alternate is no error
    assert reaches(session, "f", "q3") == ["q3"]  # the default exchange may be one


def test_alternate_exchange_behind_a_binding(session: Session) -> None:
    """It is the bound exchange that leads nowhere, so its alternate that takes over."""
    session.exchange_declare("ae", "fanout")
    session.exchange_declare("inner", "direct", arguments={"alternate-exchange": "ae"})
    session.exchange_bind("inner", "amq.fanout")
    session.queue_bind("q1", "ae")
    session.queue_bind("q2", "amq.fanout")
    assert reaches(session, "amq.fanout", "k") == ["q1", "q2"]


def test_alternate_exchange_is_resolved_when_it_is_needed(session: Session) -> None:
    session.exchange_declare("x", "direct", arguments={"alternate-exchange": "later"})
    assert reaches(session, "x", "k") == []
    session.exchange_declare("later", "fanout")
    session.queue_bind("q1", "later")
    assert reaches(session, "x", "k") == ["q1"]


def test_cc_and_bcc_route_to_the_union(session: Session) -> None:
    session.queue_bind("q1", "amq.direct", "a")
    session.queue_bind("q2", "amq.direct", "b")
    session.queue_bind("q3", "amq.direct", "c")
    headers = {"CC": ["b", "a"], "BCC": ["c"], "own": "kept"}
    assert reaches(session, "amq.direct", "a", headers=headers) == ["q1", "q2", "q3"]
    assert reaches(session, "", "q1", headers={"CC": ["q2", "q1", "nope"]}) == ["q1", "q2"]
    assert routing_keys(envelope("", "a", headers=headers)) == ("a", "b", "c")


def test_bcc_is_removed_and_all_else_stays(session: Session) -> None:
    sent = envelope(
        "", "q1", headers={"x": [1, "two"], "BCC": ["q2"], "CC": ["q3"]}, message_id="m", priority=3
    )
    found = route(session.vhost.default_exchange, sent)
    assert found.envelope is not sent
    assert found.envelope.properties.headers == {"x": [1, "two"], "CC": ["q3"]}
    assert (found.envelope.properties.message_id, found.envelope.priority) == ("m", 3)
    assert (found.envelope.exchange, found.envelope.routing_key) == ("", "q1")
    again = route(session.vhost.default_exchange, sent)
    assert again.envelope is found.envelope  # one for all messages that were published alike


def test_without_bcc_the_envelope_is_delivered_as_it_is(session: Session) -> None:
    tables: list[dict[str, Any] | None] = [None, {}, {"CC": ["q2"]}, {"CC": []}, {"xCC": 1}, {"other": "CC"}]
    for headers in tables:
        sent = envelope("", "q1", headers=headers)
        assert route(session.vhost.default_exchange, sent).envelope is sent


@pytest.mark.parametrize(
    ("name", "value", "type"),
    [
        ("CC", "a", "longstr"),
        ("BCC", 1, "signedint"),
        ("CC", None, "void"),
        ("BCC", {"a": 1}, "table"),
        ("CC", ["a", 5], "signedint"),
        ("BCC", [ByteArray(b"q")], "binary"),
    ],
)
def test_cc_and_bcc_must_be_arrays_of_strings(session: Session, name: str, value: Any, type: str) -> None:
    with pytest.raises(InvalidArgument) as info:
        routed(session, "", "q1", headers={name: value})
    assert str(info.value) == f'invalid message: {{unacceptable_type_in_header,"{name}",{type}}}'


def test_headers_exchange_with_cc(session: Session) -> None:
    session.queue_bind("q1", "amq.headers", "", {"h": 1})
    assert reaches(session, "amq.headers", "", headers={"h": 1, "CC": ["x", "y"]}) == ["q1"]


def test_deleting_a_queue_takes_it_off_every_route(session: Session) -> None:
    for exchange in ("amq.direct", "amq.fanout", "amq.topic"):
        session.queue_bind("q1", exchange, "k")
    session.queue_delete("q1")
    for exchange in ("", "amq.direct", "amq.fanout", "amq.topic"):
        assert reaches(session, exchange, "k" if exchange else "q1") == []
