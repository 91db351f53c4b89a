"""Fixtures of the STOMP tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import unquote

import pytest
from e2e.stomp.stomp_broker import STOMP_REFERENCE
from support.server import LeveretServer, Server
from support.stomp_peer import StompPeer


@pytest.fixture
def stomp_port(shared: Server) -> int:
    """Of the shared server."""
    if isinstance(shared, LeveretServer):
        return shared.ports["stomp"]
    if not STOMP_REFERENCE:
        pytest.skip("LEVERET_TEST_STOMP_REFERENCE is not set")
    return int(STOMP_REFERENCE.rpartition(":")[2])


@pytest.fixture
def stomp(shared: Server, stomp_port: int) -> Iterator[Callable[..., StompPeer]]:
    """Opens logged-in peers (version="1.2", further headers of CONNECT). Closes them, and deletes the queues they named."""
    peers: list[StompPeer] = []

    def open(version: str | None = "1.2", **headers: Any) -> StompPeer:
        peers.append(StompPeer(stomp_port))
        if version is not None:
            peers[-1].login(version, **headers)
        return peers[-1]

    yield open
    queues = set()
    for peer in peers:
        peer.close()
        for destination in peer.destinations:
            kind, _, queue = destination.rpartition("/")
            if kind in ("/queue", "", "/amq/queue") and queue:
                queues.add(unquote(queue))
    if queues:
        with shared.peer() as cleaner:
            for queue in sorted(queues):
                cleaner.send(1, "queue.delete", queue=queue)
                if cleaner.expect(1, "queue.delete-ok", "channel.close").name == "channel.close":
                    cleaner.send(1, "channel.close-ok")
                    cleaner.open_channel(1)
            cleaner.goodbye()


@pytest.fixture
def raw(stomp: Callable[..., StompPeer]) -> StompPeer:
    """A connection on which nothing was said yet."""
    return stomp(None)


@pytest.fixture
def stomper(stomp: Callable[..., StompPeer]) -> StompPeer:
    """A logged-in STOMP 1.2 connection."""
    return stomp()
