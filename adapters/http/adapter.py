"""The HTTP doors as the broker sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from leveret.adapters.base import DoorSpec

if TYPE_CHECKING:
    import trio

    from leveret.adapters.transport import Transport
    from leveret.core.broker import Broker

__all__ = ["HttpAdapter"]


class HttpAdapter:
    """All HTTP connections of a broker."""

    name: ClassVar[str] = "http"

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def doors(self) -> Sequence[DoorSpec]:
        return []

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        task_status.started()

    async def serve(self, transport: Transport) -> None:
        raise NotImplementedError
