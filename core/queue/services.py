"""What queues work with. A broker has one of each; `core.vhost.Services` brings them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from leveret.core.counters import Traffic
    from leveret.core.dispatcher import Dispatcher
    from leveret.core.store.base import Store
    from leveret.core.timers import Timers
__all__ = ["QueueServices"]


class QueueServices(Protocol):
    """window_messages, window_bytes: how much a queue keeps in memory of the ready messages that are on disk."""

    @property
    def store(self) -> Store: ...
    @property
    def dispatcher(self) -> Dispatcher: ...
    @property
    def timers(self) -> Timers: ...
    @property
    def traffic(self) -> Traffic: ...
    @property
    def window_messages(self) -> int: ...
    @property
    def window_bytes(self) -> int: ...
