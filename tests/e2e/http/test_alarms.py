"""Alarms of memory and disk: AMQP connections that publish are blocked, HTTP requests that publish are refused."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator

import aiohttp
import pika
import pika.exceptions
import pytest
from support.amqp_peer import Peer, PeerClosed
from support.rest_call import LOGIN, call, v1
from support.server import REFERENCE, Server, own_server_only, poll

Connect = Callable[..., Peer]


SOON_S = 15.0  # alarms are looked at once a second or so


no_http_there = own_server_only("the reference has no REST API for messages")


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


def test_only_connections_that_publish_are_blocked(
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


def test_a_blocked_connections_acks_are_not_read_and_its_prefetch_fills(
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


def test_deliveries_reach_a_blocked_connection_until_its_prefetch_is_full(
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


def test_a_blocked_connection_whose_heartbeats_are_not_read_is_not_declared_dead(
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
        time.sleep(0.25)  # several heartbeats in each interval, whose least is a second
    alarm(False)
    for publisher in (speaking, silent):
        unblocked(publisher)
        publisher.barrier()
    # Unblocked, it is watched again.
    with pytest.raises(PeerClosed):
        silent.expect(0, "never", timeout=SOON_S)


def test_pika_is_told_waits_and_goes_on(shared: Server, name: str, alarm: Callable[[bool], None]) -> None:
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
def test_http_refuses_what_publishes_and_serves_everything_else(
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
def test_http_connections_are_read_under_an_alarm(
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
