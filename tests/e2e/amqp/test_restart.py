"""What outlives the server: definitions and persistent messages, through SIGTERM and SIGKILL."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest
from support.amqp_peer import Peer
from support.server import LeveretServer, poll

Start = Callable[..., LeveretServer]
PERSISTENT = 2


@pytest.fixture
def mine(server: Start) -> LeveretServer:
    return server()


@pytest.fixture(params=["stop", "kill"])
def again(request: pytest.FixtureRequest, mine: LeveretServer) -> Callable[[], Peer]:
    """Ends the server, one way or the other, starts it again on the same data, and connects."""

    def again() -> Peer:
        if request.param == "stop":
            assert mine.stop() == 0
        else:
            mine.kill()
        mine.start()
        return mine.peer()

    return again


def missing(peer: Peer, kind: str, name: str) -> bool:
    peer.send(1, f"{kind}.declare", **{kind: name}, passive=True)
    if peer.expect(1, f"{kind}.declare-ok", "channel.close").name == f"{kind}.declare-ok":
        return False
    peer.send(1, "channel.close-ok")
    peer.open_channel(1)
    return True


def test_durable_definitions_survive(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    with mine.peer() as peer:
        peer.declare(1, "durable", durable=True, arguments={"x-max-length": 5, "x-mine": ["a", {"b": None}]})
        peer.declare(1, "transient")
        peer.declare(1, "exclusive", durable=True, exclusive=True)
        peer.rpc(1, "exchange.declare", exchange="e-durable", type="topic", durable=True)
        peer.rpc(1, "exchange.declare", exchange="e-transient", type="topic")
        peer.rpc(1, "queue.bind", queue="durable", exchange="e-durable", routing_key="a.#")
        peer.rpc(1, "queue.bind", queue="transient", exchange="e-durable", routing_key="b.#")
        peer.rpc(1, "exchange.bind", source="amq.fanout", destination="e-durable", routing_key="x")
    with again() as peer:
        assert not missing(peer, "queue", "durable")
        assert missing(peer, "queue", "transient")
        assert missing(peer, "queue", "exclusive")
        assert not missing(peer, "exchange", "e-durable")
        assert missing(peer, "exchange", "e-transient")
        # The arguments are the same, type for type.
        peer.declare(1, "durable", durable=True, arguments={"x-max-length": 5})
        peer.confirm()
        for exchange, key in [("e-durable", "a.b"), ("amq.fanout", "a.c"), ("e-durable", "b.b")]:
            peer.publish_confirmed(1, exchange, key, key.encode())
        assert peer.drain(1, "durable") == [b"a.b", b"a.c"]


def test_deleted_things_stay_deleted(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    with mine.peer() as peer:
        for queue in ("deleted", "unbound", "kept"):
            peer.declare(1, queue, durable=True)
            peer.rpc(1, "queue.bind", queue=queue, exchange="amq.direct", routing_key="k")
        peer.rpc(1, "queue.unbind", queue="unbound", exchange="amq.direct", routing_key="k")
        peer.rpc(1, "queue.delete", queue="deleted")
        peer.rpc(1, "exchange.declare", exchange="e", type="direct", durable=True)
        peer.rpc(1, "exchange.delete", exchange="e")
    with again() as peer:
        assert missing(peer, "queue", "deleted")
        assert missing(peer, "exchange", "e")
        peer.confirm()
        peer.publish_confirmed(1, "amq.direct", "k", b"x")
        assert peer.counts(1, "kept")[0] == 1
        assert peer.counts(1, "unbound")[0] == 0


def test_confirmed_persistent_messages_survive(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    properties = {
        "content_type": "a/b",
        "headers": {"h": [1, None]},
        "delivery_mode": PERSISTENT,
        "priority": 3,
    }
    bodies = [b"", b"small", bytes(range(256)) * 1000]
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.confirm()
        for body in bodies:
            peer.publish_confirmed(1, "", "q", body, **properties)
    with again() as peer:
        events = [peer.get(1, "q") for _ in bodies]
        assert [event.body for event in events if event] == bodies
        assert all(event and event.properties == properties for event in events)
        assert all(event and event.routing_key == "q" for event in events)
        assert peer.get(1, "q") is None


def test_transient_messages_do_not(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.confirm()
        peer.publish_confirmed(1, "", "q", b"transient")
        peer.publish_confirmed(1, "", "q", b"persistent", delivery_mode=PERSISTENT)
        peer.publish_confirmed(1, "", "q", b"transient", delivery_mode=1)
    with again() as peer:
        assert peer.drain(1, "q") == [b"persistent"]


def test_order_and_acks_survive(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.confirm()
        peer.send_raw(
            b"".join(peer.publish_frames(1, "", "q", b"%d" % n, delivery_mode=PERSISTENT) for n in range(200))
        )
        settled = 0
        while settled < 200:
            settled = peer.expect(1, "basic.ack").delivery_tag
        for _ in range(100):
            assert peer.get(1, "q", no_ack=False)
        peer.send(1, "basic.ack", delivery_tag=50, multiple=True)
        peer.send(1, "basic.ack", delivery_tag=77)
        peer.publish_confirmed(1, "", "q", b"last", delivery_mode=PERSISTENT)  # the acks are behind us
    with again() as peer:
        rest = [b"%d" % n for n in range(50, 200) if n != 76] + [b"last"]
        assert peer.drain(1, "q") == rest


def test_what_was_delivered_is_redelivered(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.confirm()
        peer.publish_confirmed(1, "", "q", b"x", delivery_mode=PERSISTENT)
        assert peer.get(1, "q", no_ack=False)
        peer.publish_confirmed(1, "", "q", b"y", delivery_mode=PERSISTENT)
    with again() as peer:
        event = peer.get(1, "q")
        assert event is not None
        assert (event.body, event.redelivered) == (b"x", True)


def test_purged_and_dead_messages_stay_away(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    with mine.peer() as peer:
        peer.confirm()
        peer.declare(1, "dead", durable=True)
        peer.declare(
            1, "q", durable=True,
            arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-max-length": 2},
        )  # fmt: skip
        peer.declare(1, "purged", durable=True)
        for queue in ("q", "purged"):
            for number in range(5):
                peer.publish_confirmed(1, "", queue, b"%d" % number, delivery_mode=PERSISTENT)
        assert peer.rpc(1, "queue.purge", queue="purged").message_count == 5
        peer.publish_confirmed(1, "", "purged", b"new", delivery_mode=PERSISTENT)
    with again() as peer:
        assert peer.drain(1, "purged") == [b"new"]
        assert peer.drain(1, "q") == [b"3", b"4"]
        dead = [event for _ in range(3) if (event := peer.get(1, "dead"))]
        assert [event.body for event in dead] == [b"0", b"1", b"2"]
        assert all(event.headers["x-death"][0]["reason"] == "maxlen" for event in dead)


def test_time_to_live_goes_on_while_the_server_is_down(
    mine: LeveretServer, again: Callable[[], Peer]
) -> None:
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.confirm()
        peer.publish_confirmed(1, "", "q", b"short", delivery_mode=PERSISTENT, expiration="100")
        peer.publish_confirmed(1, "", "q", b"long", delivery_mode=PERSISTENT, expiration="600000")
        began = time.monotonic()
    with again() as peer:
        while time.monotonic() - began < 0.15:
            peer.barrier()
        poll(lambda: peer.counts(1, "q")[0] == 1, "the short one has not expired")
        assert peer.drain(1, "q") == [b"long"]


def test_priorities_survive(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True, arguments={"x-max-priority": 5})
        peer.confirm()
        for priority in (1, 5, 3):
            peer.publish_confirmed(1, "", "q", b"%d" % priority, delivery_mode=PERSISTENT, priority=priority)
    with again() as peer:
        peer.confirm()
        peer.publish_confirmed(1, "", "q", b"4", delivery_mode=PERSISTENT, priority=4)
        assert peer.drain(1, "q") == [b"5", b"4", b"3", b"1"]


def test_a_committed_transaction_survives(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.rpc(1, "tx.select")
        for number in range(10):
            peer.publish(1, "", "q", b"%d" % number, delivery_mode=PERSISTENT)
        peer.rpc(1, "tx.commit")
        peer.publish(1, "", "q", b"not committed", delivery_mode=PERSISTENT)
        peer.barrier()
    with again() as peer:
        assert peer.drain(1, "q") == [b"%d" % number for number in range(10)]


def test_users_and_virtual_hosts_survive(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    mine.ctl("add_vhost", "other")
    mine.ctl("add_user", "alice", "secret")
    mine.ctl("set_permissions", "-p", "other", "alice", ".*", ".*", ".*")
    with mine.peer(user="alice", password="secret", vhost="other") as peer:
        peer.declare(1, "q", durable=True)
        peer.confirm()
        peer.publish_confirmed(1, "", "q", b"x", delivery_mode=PERSISTENT)
    again().close()
    with mine.peer(user="alice", password="secret", vhost="other") as peer:
        assert peer.drain(1, "q") == [b"x"]


def test_many_restarts(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True)
    for number in range(4):
        with again() as peer:
            peer.confirm()
            peer.publish_confirmed(1, "", "q", b"%d" % number, delivery_mode=PERSISTENT)
            assert peer.counts(1, "q")[0] == number + 1


# The ways of ending


def test_a_shutdown_tells_the_clients(mine: LeveretServer) -> None:
    # AMQP connection.close 320
    with mine.peer() as peer:
        peer.declare(1, "q")
        mine.process.send_signal(signal.SIGTERM)
        close = peer.expect(0, "connection.close")
        assert close.reply_code == 320
        assert close.reply_text.startswith("CONNECTION_FORCED - ")
        peer.send(0, "connection.close-ok")
        peer.expect_eof()
    assert mine.process.wait(10) == 0


def test_a_shutdown_does_not_wait_for_ever(server: Start) -> None:
    mine = server(settings={"LEVERET_SERVER_SHUTDOWN_TIMEOUT_S": "0.5"})
    with mine.peer():  # never answers
        assert mine.stop() == 0


def test_messages_on_their_way_to_a_client_are_kept(server: Start) -> None:
    mine = server(settings={"LEVERET_SERVER_SHUTDOWN_TIMEOUT_S": "0.5"})  # the client will not say goodbye
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.confirm()
        for number in range(5):
            peer.publish_confirmed(1, "", "q", b"%d" % number, delivery_mode=PERSISTENT)
        peer.consume(1, "q")
        peer.deliver()
        mine.stop()
    mine.start()
    with mine.peer() as peer:
        assert peer.drain(1, "q") == [b"0", b"1", b"2", b"3", b"4"]


def test_a_second_server_on_the_same_data_is_refused(server: Start, mine: LeveretServer) -> None:
    with pytest.raises(AssertionError, match="did not start"):
        server(data_dir=mine.data_dir)
    mine.peer().goodbye()


def test_clients_that_come_too_early_find_the_door_closed(mine: LeveretServer) -> None:
    mine.stop()
    with pytest.raises(ConnectionRefusedError):
        mine.peer()
    mine.start()


def test_a_long_backlog_comes_back(mine: LeveretServer, again: Callable[[], Peer]) -> None:
    count = 5000  # more than is kept in memory
    with mine.peer() as peer:
        peer.declare(1, "q", durable=True)
        peer.confirm()
        frames = b"".join(
            peer.publish_frames(1, "", "q", b"%d" % n, delivery_mode=PERSISTENT) for n in range(count)
        )
        peer.send_raw(frames)
        settled = 0
        while settled < count:
            settled = peer.expect(1, "basic.ack").delivery_tag
    with again() as peer:
        assert peer.counts(1, "q")[0] == count
        peer.consume(1, "q", no_ack=True)
        assert [peer.deliver().body for _ in range(count)] == [b"%d" % n for n in range(count)]
