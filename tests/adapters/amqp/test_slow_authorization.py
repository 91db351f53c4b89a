"""A backend that must ask elsewhere: frames wait for its answer, in order, and nothing happens twice."""

from __future__ import annotations

from typing import ClassVar

import trio
import trio.testing
from support.in_process import HANDSHAKE, SCRIPT, broker_in_process

from leveret.adapters.amqp.methods import ChannelClose, ConnectionClose, decode_method
from leveret.auth.chain import AuthChain
from leveret.auth.contracts import Permission, Principal, Resource


class Elsewhere:
    """Answers after a while; `asked` is what it was asked."""

    name: ClassVar[str] = "elsewhere"
    settings_type: ClassVar[type | None] = None

    def __init__(self, delay_s: float = 0.001, allowed: bool = True) -> None:
        self.delay_s = delay_s
        self.allowed = allowed
        self.asked: list[tuple[Permission | None, Resource]] = []

    async def authorize(
        self, principal: Principal, vhost: str, permission: Permission | None, resource: Resource
    ) -> bool:
        self.asked.append((permission, resource))
        await trio.sleep(self.delay_s)
        return self.allowed or resource.kind == "vhost"


def methods_of(data: bytes) -> list[object]:
    found: list[object] = []
    while data:
        size = int.from_bytes(data[3:7], "big")
        if data[0] == 1:
            found.append(decode_method(data[7 : 7 + size]))
        data = data[8 + size :]
    return found


async def test_frames_wait_for_the_answer() -> None:
    async with broker_in_process() as server:
        backend = Elsewhere()
        server.broker.auth = AuthChain([server.broker.users], [backend])
        stream, _, ended = server.connect()
        await stream.send_all(HANDSHAKE + SCRIPT)
        received = b""
        with trio.fail_after(5):
            while b"0004" not in received:
                received += await stream.receive_some()
        await stream.aclose()
        await ended.wait()
        bodies = [b"%04d" % number for number in range(5)]
        assert [received.count(body) for body in bodies] == [1] * 5
        assert sorted(bodies, key=received.index) == bodies
        assert server.broker.vhosts["/"].queues["script"].published_total == 5
        # Each question once: the answers are remembered.
        assert len(backend.asked) == len(set(backend.asked))


async def test_a_refusal_closes_the_channel() -> None:
    async with broker_in_process() as server:
        server.broker.auth = AuthChain([server.broker.users], [Elsewhere(allowed=False)])
        stream, _, ended = server.connect()
        await stream.send_all(HANDSHAKE + SCRIPT)
        received = b""
        with trio.fail_after(5):
            while b"ACCESS_REFUSED" not in received:
                received += await stream.receive_some()
        closes = [method for method in methods_of(received) if isinstance(method, ChannelClose)]
        assert [close.reply_code for close in closes] == [403]
        await stream.aclose()
        await ended.wait()


async def test_no_answer_ends_the_connection(autojump_clock: trio.testing.MockClock) -> None:
    async with broker_in_process() as server:
        backend = Elsewhere()
        server.broker.auth = AuthChain([server.broker.users], [backend])
        stream, _, ended = server.connect()
        await stream.send_all(HANDSHAKE)
        await trio.testing.wait_all_tasks_blocked(0.01)
        backend.delay_s = 3600
        await stream.send_all(SCRIPT)
        received = b""
        while b"in time" not in received:
            received += await stream.receive_some()
        closes = [method for method in methods_of(received) if isinstance(method, ConnectionClose)]
        assert [close.reply_code for close in closes] == [541]
        await stream.aclose()
        await ended.wait()
