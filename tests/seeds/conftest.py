"""pika for the exercises: workers in threads of their own, as the programs of a tutorial are processes of their own."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from seeds.workers import Worker
from support.server import Server


@pytest.fixture
def open_channel(shared: Server) -> Iterator[Callable[[], BlockingChannel]]:
    """Opens a channel on a connection of its own; all are closed after the test."""
    connections = []

    def open_channel() -> BlockingChannel:
        connections.append(pika.BlockingConnection(pika.URLParameters(shared.url)))
        return connections[-1].channel()

    yield open_channel
    for connection in connections:
        if connection.is_open:
            connection.close()


@pytest.fixture
def channel(open_channel: Callable[[], BlockingChannel]) -> BlockingChannel:
    return open_channel()


@pytest.fixture
def start_worker(shared: Server) -> Iterator[Callable[..., Worker]]:
    """Starts `Worker(url, prepare)`; all are stopped after the test, and must not have failed."""
    with contextlib.ExitStack() as stack:

        def start(prepare: Callable[..., None]) -> Worker:
            return stack.enter_context(Worker(shared.url, prepare))

        yield start
