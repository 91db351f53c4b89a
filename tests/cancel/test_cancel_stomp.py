"""A connection can be cancelled wherever it waits, and leaves nothing behind."""

from __future__ import annotations

import trio
import trio.testing
from support.in_process import InProcess, audit, broker_in_process
from support.stomp_wire import connect_frame, frame

from leveret.adapters.stomp.adapter import StompAdapter

SCRIPT = (
    connect_frame()
    + b"".join(
        frame("SEND", f"{number:04}", destination="/queue/script", persistent="true", receipt=number)
        for number in range(5)
    )
    + frame("SUBSCRIBE", id=0, destination="/queue/script", ack="client", receipt="s")
    + frame("SUBSCRIBE", id=1, destination="/topic/t", exclusive="true")
    + frame("SEND", "request", destination="/topic/t", reply_to="/temp-queue/r")
    + frame("BEGIN", transaction="t")
    + frame("SEND", "never", destination="/queue/script", transaction="t")
)


class CancelAtStep(trio.abc.Instrument):
    """Cancels a scope when a task whose name holds `name` is about to take its n-th step."""

    def __init__(self, name: str, step: int, scope: trio.CancelScope) -> None:
        self.name, self.left, self.scope = name, step, scope
        self.has_fired = False

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if self.name in task.name:
            self.left -= 1
            if self.left == 0:
                self.has_fired = True
                self.scope.cancel()


async def one(server: InProcess, step: int, piece: int, end: bytes) -> bool:
    """One session, cancelled at that step of its task; False: it was over before."""
    stream, scope, ended = server.connect()
    instrument = CancelAtStep("InProcess.connect.<locals>.serve", step, scope)
    trio.lowlevel.add_instrument(instrument)
    data = SCRIPT + end
    try:
        for start in range(0, len(data), piece):
            try:
                await stream.send_all(data[start : start + piece])
            except trio.BrokenResourceError:
                break
            await trio.testing.wait_all_tasks_blocked(0.001)
        await stream.aclose()
        with trio.fail_after(5):
            await ended.wait()
    finally:
        trio.lowlevel.remove_instrument(instrument)
    return instrument.has_fired


async def test_cancelled_at_every_step() -> None:
    async with broker_in_process(StompAdapter) as server:
        for end in (b"", frame("DISCONNECT", receipt=9), frame("FOO")):
            for piece in (2000, 100):
                step = 1
                while await one(server, step, piece, end):
                    audit(server.broker)
                    step += 1
                assert step > 3
        vhost = server.broker.vhosts["/"]
        assert list(vhost.queues) == ["script"]
        # All that was published is there, however each of the sessions ended, and nothing of the transactions.
        bodies = []
        while (message := vhost.queues["script"].get(no_ack=True)) is not None:
            bodies.append(message.body)
        assert set(bodies) == {b"%04d" % number for number in range(5)}


async def test_the_broker_cancelled_with_connections_open() -> None:
    async with broker_in_process(StompAdapter) as server:
        streams = [server.connect()[0] for _ in range(10)]
        for stream in streams:
            await stream.send_all(SCRIPT)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert len(server.broker.connections) == 10
    for stream in streams:
        await stream.aclose()
