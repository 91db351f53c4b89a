"""A backend that must ask elsewhere: frames wait for its answer, in order, and nothing happens twice."""

from __future__ import annotations

from typing import ClassVar

import trio
from support.in_process import InProcess, broker_in_process
from support.stomp_wire import Got, StompClient, connect_frame, frame

from leveret.adapters.stomp.adapter import StompAdapter
from leveret.auth.chain import AuthChain
from leveret.auth.contracts import Permission, Principal, Resource


class Elsewhere:
    """Answers after a while; `asked` is what it was asked."""

    name: ClassVar[str] = "elsewhere"
    settings_type: ClassVar[type | None] = None

    def __init__(self, refused: tuple[str, str] = ("", "")) -> None:
        self.refused = refused
        self.asked: list[tuple[Permission | None, Resource]] = []

    async def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool:
        self.asked.append((permission, resource))
        await trio.sleep(0.005)
        return (permission, resource.kind) != self.refused


async def converse(server: InProcess, *data: bytes, count: int) -> list[Got]:
    client = StompClient(server)
    await client.send(connect_frame(), *data)
    got: list[Got] = []
    with trio.fail_after(5):
        while len(got) < count and not client.is_closed:
            got += await client.read()
    await client.close()
    return got


async def test_frames_wait_for_the_answer() -> None:
    async with broker_in_process(StompAdapter) as server:
        backend = Elsewhere()
        server.broker.auth = AuthChain([server.broker.users], [backend])
        send = [frame("SEND", str(number), destination="/queue/a") for number in range(3)]
        got = await converse(
            server,
            *send,
            frame("SEND", "3", destination="/queue/a", receipt="sent"),
            frame("SUBSCRIBE", id=0, destination="/queue/a", receipt="queue"),
            frame("SUBSCRIBE", id=1, destination="/topic/t", receipt="topic"),
            frame(
                "SUBSCRIBE",
                id=2,
                destination="/topic/t",
                receipt="durable",
                durable="true",
                auto_delete="true",
            ),
            frame("BEGIN", transaction=1),
            frame("SEND", "4", destination="/topic/t", transaction=1),
            frame("COMMIT", transaction=1, receipt="done"),
            count=11,
        )
        assert [one["receipt-id"] for one in got if one.command == "RECEIPT"] == [
            "sent", "queue", "topic", "durable", "done",
        ]  # fmt: skip
        assert sorted([one.body for one in got if one.command == "MESSAGE"]) == [
            b"0",
            b"1",
            b"2",
            b"3",
            b"4",
            b"4",
        ]
        assert list(server.broker.vhosts["/"].queues) == ["a"]
        # Each question once: the answers are remembered.
        assert len(backend.asked) == len(set(backend.asked))


async def test_a_refusal_leaves_no_queue() -> None:
    async with broker_in_process(StompAdapter) as server:
        server.broker.auth = AuthChain([server.broker.users], [Elsewhere(("read", "topic"))])
        got = await converse(
            server, frame("SUBSCRIBE", id=1, destination="/topic/t", receipt=1, durable="true"), count=2
        )
        assert (got[1]["message"], got[1]["receipt-id"]) == ("access_refused", "1")
        assert got[1].body == (
            b"ACCESS_REFUSED - read access to topic 't' in exchange 'amq.topic' in vhost '/' refused for user 'guest'"
        )
        assert not server.broker.vhosts["/"].queues


async def test_a_reply_queue_keeps_its_name_while_it_is_asked_about() -> None:
    async with broker_in_process(StompAdapter) as server:
        backend = Elsewhere()
        server.broker.auth = AuthChain([server.broker.users], [backend])
        got = await converse(
            server, frame("SEND", "x", destination="/queue/a", reply_to="/temp-queue/r", receipt=1), count=2
        )
        assert got[1]["receipt-id"] == "1"
        assert len({asked.name for _, asked in backend.asked if asked.name.startswith("amq.gen-")}) == 1
