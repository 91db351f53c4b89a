"""Definitions as a document, exported and imported while the broker works."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from leveret.core.definitions.exporter import export
from leveret.core.definitions.importer import import_slices
from leveret.core.garbage_collection import paused_collector

if TYPE_CHECKING:
    from leveret.core.broker import Broker
    from leveret.core.definitions.import_items import Report
__all__ = ["export_definitions", "import_definitions"]


def export_definitions(broker: Broker, vhost: str | None = None) -> dict[str, Any]:
    """All definitions, or those of one virtual host, in RabbitMQ's form. Raise NotFound (virtual host)."""
    with paused_collector():
        return export(broker, vhost)


async def import_definitions(
    broker: Broker,
    document: Any,
    pause: Callable[[], Awaitable[object]],
    *,
    vhost: str | None = None,
    user: str | None = None,
) -> Report:
    """Import a document in slices of some milliseconds; what exists stays, and a mistake changes nothing.

    pause: awaited after each slice, and gives others their turn, in the caller's event loop. The caller shields this
    function from cancellation: once begun, an import is finished. vhost: the one that the document is for; None: the
    document names them. user: gets all permissions in new virtual hosts. Raise DefinitionsError, NotFound.
    """
    slices = import_slices(broker, document, vhost, user=user)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            report: Report = end.value
            return report
        broker.dispatcher.run()
        await pause()
        broker.timers.tick()
