"""A consuming program: its own connection, its own thread, until it is stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

import pika
from pika.adapters.blocking_connection import BlockingChannel
from support.server import poll

__all__ = ["Worker"]


class Worker:
    """Connects, lets `prepare(channel, worker)` declare and subscribe, and consumes. Handlers append to `got`."""

    def __init__(self, url: str, prepare: Callable[[BlockingChannel, Worker], None]) -> None:
        self.got: list[Any] = []
        self._url = url
        self._prepare = prepare
        self._ready = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._channel: BlockingChannel | None = None

    def _run(self) -> None:
        try:
            with pika.BlockingConnection(pika.URLParameters(self._url)) as connection:
                self._channel = connection.channel()
                self._prepare(self._channel, self)
                self._ready.set()
                self._channel.start_consuming()
        except Exception as error:  # noqa: BLE001 - told in the test's own thread
            self._error = error
        finally:
            self._ready.set()

    def wait(self, count: int, timeout: float = 10.0) -> list[Any]:
        """Everything that came, once there are `count`."""
        poll(lambda: len(self.got) >= count, f"{count} messages, got {self.got}", timeout)
        return self.got

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *exc_info: object) -> None:
        channel = self._channel
        if channel is not None and channel.connection.is_open and self._thread.is_alive():
            channel.connection.add_callback_threadsafe(channel.stop_consuming)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the worker does not stop"
        if self._error is not None:
            raise self._error
