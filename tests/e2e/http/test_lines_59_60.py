"""Lines 59 and 60 of what clones usually get wrong: alarms, over AMQP and over HTTP; CloudEvents over HTTP."""

# mypy: disable-error-code="import-untyped"
from __future__ import annotations

import asyncio
import base64
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import pika
import pika.exceptions
import pytest
from support.amqp_peer import Peer, PeerClosed
from support.server import REFERENCE, LeveretServer, Server, own_server_only, poll

Connect = Callable[..., Peer]
LOGIN = {"Authorization": "Basic " + base64.b64encode(b"guest:guest").decode()}
SOON_S = 15.0  # alarms are looked at once a second or so

no_http_there = own_server_only("the reference has no REST API for messages")


def v1(server: Server, path: str) -> str:
    assert isinstance(server, LeveretServer)
    return f"http://127.0.0.1:{server.ports['http']}/v1{path}"


def call(
    server: Server, path: str, body: bytes = b"", method: str = "POST", headers: dict[str, str] | None = None
) -> tuple[int, bytes, dict[str, str]]:
    """By urllib: status, body, headers with their names in lower case."""
    request = urllib.request.Request(
        v1(server, path), data=body, headers=LOGIN | (headers or {}), method=method
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()}
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), {k.lower(): v for k, v in error.headers.items()}


# -- 59: alarms


@pytest.fixture(params=["memory", "disk"])
def alarm(shared: Server, request: pytest.FixtureRequest) -> Iterator[Callable[[bool], None]]:
    """Sets and clears one of the two alarms."""
    if REFERENCE and request.param == "disk":
        pytest.skip("the reference's disk limit takes ten seconds to be looked at")

    def set_to(is_on: bool) -> None:
        if request.param == "memory":
            shared.ctl("set_vm_memory_high_watermark", "0" if is_on else "0.6")
        else:
            shared.ctl("set_disk_free_limit", str(2**60) if is_on else "50MB")

    yield set_to
    set_to(False)


def block(publisher: Peer, queue: str) -> None:
    """Publish once under the alarm: then the connection is told and held."""
    publisher.publish(1, "", queue, b"under the alarm")
    publisher.expect(0, "connection.blocked", timeout=SOON_S)


def unblocked(publisher: Peer) -> None:
    publisher.expect(0, "connection.unblocked", timeout=SOON_S)


def test_59_only_connections_that_publish_are_blocked(
    connect: Connect, name: str, alarm: Callable[[bool], None]
) -> None:
    publisher, consumer, idle = connect(), connect(), connect()
    consumer.declare(1, name)
    publisher.confirm()
    for number in range(3):
        publisher.publish_confirmed(1, "", name, b"%d" % number)
    alarm(True)
    block(publisher, name)
    publisher.publish(1, "", name, b"held")
    # Who does not publish consumes, acknowledges, declares, and is told nothing.
    consumer.consume(1, name)
    for number in range(3):
        event = consumer.deliver()
        assert event.body == b"%d" % number
        consumer.send(1, "basic.ack", delivery_tag=event.delivery_tag)
    idle.declare(1, f"{name}.2")
    assert idle.counts(1, name)[1] == 1
    assert idle.barrier() == []
    # The one that came in under the alarm may have been taken; what came behind it is not read.
    until = time.monotonic() + 0.5
    late: list[bytes] = []
    while (left := until - time.monotonic()) > 0:
        try:
            late.append(consumer.next(left).body)
        except TimeoutError:
            break
    assert b"held" not in late
    alarm(False)
    unblocked(publisher)
    while late[-1:] != [b"held"]:
        late.append(consumer.deliver(timeout=SOON_S).body)
    assert late == [b"under the alarm", b"held"]


def test_59_a_blocked_connections_acks_are_not_read_and_its_prefetch_fills(
    connect: Connect, name: str, alarm: Callable[[bool], None]
) -> None:
    both, feeder, watcher = connect(), connect(), connect()
    watcher.declare(1, name)
    watcher.declare(1, f"{name}.out")
    feeder.confirm()
    for number in range(6):
        feeder.publish_confirmed(1, "", name, b"%d" % number)
    both.rpc(1, "basic.qos", prefetch_count=2)
    alarm(True)
    block(both, f"{name}.out")
    # It consumes by what the server had read before: nothing of this is.
    both.send(1, "basic.consume", queue=name, consumer_tag="late", no_ack=False)
    with pytest.raises(TimeoutError):
        both.next(0.4)
    alarm(False)
    unblocked(both)
    both.expect(1, "basic.consume-ok")
    tags = [both.deliver().delivery_tag for _ in range(2)]
    alarm(True)
    block(both, f"{name}.out")
    # Its prefetch is full; the acks that would make room lie in the socket.
    both.send(1, "basic.ack", delivery_tag=tags[-1], multiple=True)
    with pytest.raises(TimeoutError):
        both.next(0.4)
    assert watcher.counts(1, name)[0] == 4
    alarm(False)
    unblocked(both)
    assert [both.deliver().body for _ in range(2)] == [b"2", b"3"]


def test_59_deliveries_reach_a_blocked_connection_until_its_prefetch_is_full(
    connect: Connect, name: str, alarm: Callable[[bool], None]
) -> None:
    both, rejecter, watcher = connect(), connect(), connect()
    watcher.declare(1, name)
    watcher.declare(1, f"{name}.out")
    feeder = connect()
    feeder.confirm()
    for number in range(4):
        feeder.publish_confirmed(1, "", name, b"%d" % number)
    # Four are out with somebody else; they come back while the alarm is on, and there are two places.
    rejecter.rpc(1, "basic.qos", prefetch_count=4)
    rejecter.consume(1, name)
    taken = [rejecter.deliver() for _ in range(4)]
    both.rpc(1, "basic.qos", prefetch_count=2)
    both.consume(1, name)
    alarm(True)
    block(both, f"{name}.out")
    rejecter.rpc(1, "basic.cancel", consumer_tag=taken[0].consumer_tag)
    rejecter.send(1, "basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert [both.deliver().body for _ in range(2)] == [b"0", b"1"]
    with pytest.raises(TimeoutError):
        both.next(0.3)
    assert watcher.counts(1, name)[0] == 2
    alarm(False)
    unblocked(both)


def test_59_a_blocked_connection_whose_heartbeats_are_not_read_is_not_declared_dead(
    connect: Connect, name: str, alarm: Callable[[bool], None]
) -> None:
    speaking, silent, other = connect(heartbeat=1), connect(heartbeat=1), connect()
    other.declare(1, name)
    alarm(True)
    for publisher in (speaking, silent):
        block(publisher, name)
    heartbeat = Peer.frame(8, 0, b"")
    until = time.monotonic() + 3.5  # more than three times what would be dead otherwise
    while time.monotonic() < until:
        speaking.send_raw(heartbeat)
        time.sleep(0.25)
    alarm(False)
    for publisher in (speaking, silent):
        unblocked(publisher)
        publisher.barrier()
    # Unblocked, it is watched again.
    with pytest.raises(PeerClosed):
        silent.expect(0, "never", timeout=SOON_S)


def test_59_pika_is_told_waits_and_goes_on(shared: Server, name: str, alarm: Callable[[bool], None]) -> None:
    told: list[str] = []
    parameters = pika.URLParameters(shared.url)
    parameters.heartbeat = 2
    publishing, consuming = pika.BlockingConnection(parameters), pika.BlockingConnection(parameters)
    try:
        publishing.add_on_connection_blocked_callback(lambda _, frame: told.append(frame.method.reason))
        publishing.add_on_connection_unblocked_callback(lambda _, frame: told.append("unblocked"))
        consuming.add_on_connection_blocked_callback(lambda _, frame: told.append("a consumer was told"))
        channel, reader = publishing.channel(), consuming.channel()
        reader.queue_declare(name)
        for number in range(3):
            channel.basic_publish("", name, b"%d" % number)
        poll(lambda: reader.queue_declare(name, passive=True).method.message_count == 3, "published")
        alarm(True)
        channel.basic_publish("", name, b"3")
        deadline = time.monotonic() + SOON_S
        while not told and time.monotonic() < deadline:
            publishing.process_data_events(0.05)
        assert told in (["low on memory"], ["low on disk"])
        channel.basic_publish("", name, b"4")
        for number in range(3):
            method, _, body = reader.basic_get(name)
            assert body == b"%d" % number
            reader.basic_ack(method.delivery_tag)
        alarm(False)
        while told[-1] != "unblocked" and time.monotonic() < deadline:
            publishing.process_data_events(0.05)
        assert told[1:] == ["unblocked"]
        poll(lambda: reader.queue_declare(name, passive=True).method.message_count == 2, "what was held")
        reader.queue_delete(name)
    finally:
        publishing.close()
        consuming.close()


@no_http_there
def test_59_http_refuses_what_publishes_and_serves_everything_else(
    shared: Server, peer: Peer, name: str, alarm: Callable[[bool], None]
) -> None:
    peer.declare(1, name, durable=True)
    messages = f"/queues/%2F/{name}/messages"
    assert call(shared, messages, b"before")[0] == 200
    alarm(True)

    def refused(path: str, body: bytes, headers: dict[str, str] | None = None) -> bool:
        status, content, answered = call(shared, path, body, headers=headers)
        if status == 200:
            return False
        problem = json.loads(content)
        assert (status, problem["error"], answered["content-type"]) == (
            503,
            "alarm",
            "application/problem+json",
        )
        assert 0 < int(answered["retry-after"]) <= 60
        assert "memory" in problem["detail"] or "disk" in problem["detail"]
        return True

    taken = 1
    while not refused(messages, b"too early"):
        taken += 1
        assert taken < 1000
    batch = json.dumps([{"payload": "1"}, {"payload": "2"}]).encode()
    assert refused(f"{messages}/batch", batch, {"Content-Type": "application/json"})
    assert refused(messages, b"k", {"Idempotency-Key": "59"})
    assert refused(f"/queues/%2F/{name}/requests?timeout=1", b"?")
    assert refused("/exchanges/%2F/amq.topic/messages?routing_key=a", b"x")
    assert peer.counts(1, name)[0] == taken
    # Reading, settling and streams of events go on.
    status, content, _ = call(shared, f"/queues/%2F/{name}/receive?wait=1")
    [message] = json.loads(content)["messages"]
    assert (status, message["payload"]) == (200, "before")
    assert call(shared, f"/leases/{message['lease']}/ack")[0] == 204
    assert call(shared, f"/queues/%2F/{name}/events", method="HEAD")[0] == 200
    alarm(False)
    poll(
        lambda: call(shared, messages, b"after", headers={"Idempotency-Key": "59"})[0] == 200,
        "published again",
    )
    assert peer.drain(1, name)[-1] == b"after"


@no_http_there
def test_59_http_connections_are_read_under_an_alarm(
    shared: Server, peer: Peer, name: str, alarm: Callable[[bool], None]
) -> None:
    """One kept-alive connection that publishes is not held: it is answered, each time, and may do something else."""
    peer.declare(1, name)

    async def run() -> list[int]:
        connector = aiohttp.TCPConnector(limit=1)
        async with aiohttp.ClientSession(headers=LOGIN, connector=connector) as session:
            statuses = []
            for path in ("messages", "receive?ack=auto", "messages", "receive?ack=auto"):
                async with session.post(v1(shared, f"/queues/%2F/{name}/{path}"), data=b"x") as answer:
                    await answer.read()
                    statuses.append(answer.status)
            return statuses

    assert asyncio.run(run()) == [200] * 4
    alarm(True)
    poll(lambda: call(shared, f"/queues/%2F/{name}/messages", b"x")[0] == 503, "alarm")
    assert asyncio.run(run()) == [503, 200, 503, 200]


# -- 60: CloudEvents

EVENT = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "order.placed"}
BINARY = {f"ce-{key}": value for key, value in EVENT.items()}


@pytest.fixture
def queue(shared: Server, peer: Peer, name: str) -> str:
    if REFERENCE:
        pytest.skip("the reference has no REST API for messages")
    return peer.declare(1, name)


def attributes(headers: dict[str, Any]) -> dict[str, Any]:
    return {
        key.removeprefix("cloudEvents:"): value
        for key, value in headers.items()
        if key.startswith("cloudEvents:")
    }


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),  # the specification's own example
        ("100%25", "100%"),
        ("100%2525", "100%25"),  # one round of decoding, no more
        ("%22quoted%22", '"quoted"'),
        ('"quoted \\"string\\""', 'quoted "string"'),  # a quoted string of HTTP: unquoted first
        ("a+b", "a+b"),  # no form encoding
        ("%c3%bc", "ü"),  # lower-case hexadecimal digits are understood
    ],
)
def test_60_binary_values_are_percent_decoded_and_encoded_again(
    shared: Server, peer: Peer, queue: str, value: str, text: str
) -> None:
    messages = f"/queues/%2F/{queue}/messages"
    assert call(shared, messages, b"{}", headers=BINARY | {"ce-subject": value})[0] == 200
    got = peer.get(1, queue)
    assert got is not None
    assert attributes(got.headers) == EVENT | {"subject": text}
    # And out: space, double quote, percent and everything beyond U+0021 to U+007E, in upper-case hexadecimal.
    assert call(shared, messages, b"{}", headers=BINARY | {"ce-subject": value})[0] == 200
    status, body, headers = call(shared, f"/queues/%2F/{queue}/receive?format=raw&ack=auto")
    assert (status, body) == (200, b"{}")
    sent = headers["ce-subject"]
    assert all("!" <= character <= "~" and character != '"' for character in sent)
    assert urllib.request.unquote(sent) == text  # type: ignore[attr-defined]
    assert sent == sent.replace("%c3", "%C3")
    assert {key: headers[key] for key in BINARY} == BINARY


@pytest.mark.parametrize("value", ["%ff", "%C3", "%ED%A0%80", "%C0%80"])
def test_60_binary_values_that_are_no_utf8_are_refused(
    shared: Server, peer: Peer, queue: str, value: str
) -> None:
    status, content, _ = call(
        shared, f"/queues/%2F/{queue}/messages", b"", headers=BINARY | {"ce-subject": value}
    )
    assert (status, json.loads(content)["error"]) == (400, "bad_request")
    assert peer.counts(1, queue)[0] == 0


def test_60_the_type_of_the_data_is_content_type_and_never_a_ce_header(
    shared: Server, peer: Peer, queue: str
) -> None:
    messages = f"/queues/%2F/{queue}/messages"
    status, content, _ = call(
        shared,
        messages,
        b"x",
        headers=BINARY | {"ce-datacontenttype": "text/xml", "Content-Type": "text/xml"},
    )
    assert (status, "Content-Type" in json.loads(content)["detail"]) == (400, True)
    assert peer.counts(1, queue)[0] == 0
    assert (
        call(shared, messages, b"<x/>", headers=BINARY | {"Content-Type": "text/xml; charset=utf-8"})[0]
        == 200
    )
    got = peer.get(1, queue)
    assert got is not None
    assert (got.properties["content_type"], got.body) == ("text/xml; charset=utf-8", b"<x/>")
    assert "cloudEvents:datacontenttype" not in got.headers
    # Not even if an AMQP client has written one.
    peer.publish(
        1, "", queue, b"{}", content_type="application/json",
        headers={f"cloudEvents:{key}": value for key, value in EVENT.items()}
        | {"cloudEvents:datacontenttype": "text/xml"},
    )  # fmt: skip
    poll(lambda: peer.counts(1, queue)[0] == 1, "published")
    _, _, headers = call(shared, f"/queues/%2F/{queue}/receive?format=raw&ack=auto")
    assert headers["content-type"] == "application/json"
    assert "ce-datacontenttype" not in headers
    assert headers["ce-id"] == "e-1"


@pytest.mark.parametrize(
    ("members", "body", "content_type"),
    [
        ({"data": {"a": [1, "ü", None]}}, '{"a":[1,"ü",null]}'.encode(), "application/json"),
        (
            {"data": "text"},
            b'"text"',
            "application/json",
        ),  # a string is a JSON value unless the type says otherwise
        ({"data": "text", "datacontenttype": "text/plain"}, b"text", "text/plain"),
        ({"data": "<x/>", "datacontenttype": "application/xml"}, b"<x/>", "application/xml"),
        ({"data": "text", "datacontenttype": "application/json"}, b'"text"', "application/json"),
        ({"data": "text", "datacontenttype": "application/vnd.x+json"}, b'"text"', "application/vnd.x+json"),
        ({"data": 5}, b"5", "application/json"),
        ({"data": None}, b"null", "application/json"),
        ({"data_base64": "AP8="}, b"\x00\xff", None),
        ({"data_base64": "AP8=", "datacontenttype": "image/png"}, b"\x00\xff", "image/png"),
        (
            {"data_base64": "eyJhIjoxfQ==", "datacontenttype": "application/json"},
            b'{"a":1}',
            "application/json",
        ),
        ({}, b"", None),
    ],
)
def test_60_data_and_data_base64_in_structured_mode(
    shared: Server, peer: Peer, queue: str, members: dict[str, Any], body: bytes, content_type: str | None
) -> None:
    event = json.dumps(EVENT | {"comexampleflag": True, "n": 7, "time": "2024-01-01T00:00:00Z"} | members)
    status, content, _ = call(
        shared, f"/queues/%2F/{queue}/messages", event.encode(),
        headers={"Content-Type": "Application/CloudEvents+JSON; charset=utf-8"},
    )  # fmt: skip
    assert (status, content) == (200, b'{"routed":true}')
    got = peer.get(1, queue)
    assert got is not None
    assert (got.body, got.properties.get("content_type")) == (body, content_type)
    assert attributes(got.headers) == EVENT | {"comexampleflag": True, "n": 7, "time": "2024-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("members", "status"),
    [
        ({"data": 1, "data_base64": "AA=="}, 400),
        ({"data_base64": "not base64"}, 400),
        ({"data_base64": 5}, 400),
        ({"id": ""}, 400),
        ({"id": None}, 400),
        ({"specversion": "0.3"}, 400),
        ({"time": "yesterday"}, 400),
        ({"UPPER": "x"}, 400),
        ({"nested": {"a": 1}}, 400),
        ({"big": 1 << 40}, 400),
    ],
)
def test_60_structured_events_that_are_none_are_refused(
    shared: Server, peer: Peer, queue: str, members: dict[str, Any], status: int
) -> None:
    answer = call(
        shared, f"/queues/%2F/{queue}/messages", json.dumps(EVENT | members).encode(),
        headers={"Content-Type": "application/cloudevents+json"},
    )  # fmt: skip
    assert answer[0] == status, answer
    assert answer[2]["content-type"] == "application/problem+json"
    assert peer.counts(1, queue)[0] == 0


def test_60_formats_that_are_not_understood_are_415(shared: Server, peer: Peer, queue: str) -> None:
    for kind in (
        "application/cloudevents+protobuf",
        "application/cloudevents",
        "application/cloudevents-batch+avro",
    ):
        assert call(shared, f"/queues/%2F/{queue}/messages", b"x", headers={"Content-Type": kind})[0] == 415
    assert peer.counts(1, queue)[0] == 0


def test_60_a_batch_is_a_batch_and_not_one_event(shared: Server, peer: Peer, queue: str) -> None:
    """`application/cloudevents-batch` begins like `application/cloudevents`: it is looked for first."""
    events = [EVENT | {"id": "1", "data": 1}, EVENT | {"id": "2", "data_base64": "Ag=="}, EVENT | {"id": "3"}]
    kind = {"Content-Type": "application/cloudevents-batch+json; charset=utf-8"}
    for path in ("messages", "messages/batch"):
        status, content, _ = call(
            shared, f"/queues/%2F/{queue}/{path}", json.dumps(events).encode(), headers=kind
        )
        assert (status, json.loads(content)) == (200, {"count": 3, "routed": 3, "unrouted": []})
        got = [peer.get(1, queue) for _ in range(3)]
        assert [event and (event.headers["cloudEvents:id"], event.body) for event in got] == [
            ("1", b"1"), ("2", b"\x02"), ("3", b""),
        ]  # fmt: skip
    # One that is none, and none of them is stored; an empty one is valid (JSON format 4.1).
    broken = [*events, EVENT | {"id": ""}]
    assert call(shared, f"/queues/%2F/{queue}/messages", json.dumps(broken).encode(), headers=kind)[0] == 400
    assert peer.counts(1, queue)[0] == 0
    status, content, _ = call(shared, f"/queues/%2F/{queue}/messages", b"[]", headers=kind)
    assert (status, json.loads(content)) == (200, {"count": 0, "routed": 0, "unrouted": []})
