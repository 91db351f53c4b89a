"""Sockets are served in the order in which they became ready."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import socket, trio
from leveret.adapters.scheduling import serve_in_order_of_arrival
assert serve_in_order_of_arrival()


async def main():
    for _ in range(40):
        pairs = [socket.socketpair() for _ in range(5)]
        served = []

        async def read(number, sock):
            await trio.lowlevel.wait_readable(sock)
            served.append(number)

        async with trio.open_nursery() as nursery:
            for number, (ours, _) in enumerate(pairs):
                nursery.start_soon(read, number, ours)
            await trio.testing.wait_all_tasks_blocked()
            for number in (3, 0, 4, 1, 2):
                pairs[number][1].send(b"x")
        assert served == [3, 0, 4, 1, 2], served
        for ours, theirs in pairs:
            ours.close(), theirs.close()


import trio.testing
trio.run(main)
"""


def test_in_order_of_arrival() -> None:
    """In a process of its own: what it changes holds for all of it."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
