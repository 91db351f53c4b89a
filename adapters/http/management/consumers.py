"""Consumers, and the channels they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from leveret.adapters.http.management.lists import PublishView, answer_list, check_stats, plain_table
from leveret.adapters.http.management.routes import Call, Route
from leveret.adapters.queue_listing import activity_status, is_active

if TYPE_CHECKING:
    from leveret.core.queue.consumer import Consumer
__all__ = ["ROUTES", "consumer_item"]


def _channel_details(consumer: Consumer, view: PublishView) -> dict[str, Any]:
    """As the sink describes itself, and where its connection comes from."""
    described: Mapping[str, Any] = consumer.sink.describe()
    connection_name = described.get("connection_name", "")
    peer_host, peer_port = view.peer_of(connection_name)
    return {
        # Protocols without channels have one in RabbitMQ's eyes.
        "name": described.get("name") or f"{connection_name} (1)",
        "number": described.get("number", 1),
        "user": described.get("user", ""),
        "connection_name": connection_name,
        "peer_host": described.get("peer_host", peer_host),
        "peer_port": described.get("peer_port", peer_port),
        "node": view.broker.node_name,
    }


def _timeout_ms(consumer: Consumer, view: PublishView) -> int:
    """How long a delivery may wait for its acknowledgement: clients with static types insist on the number."""
    for limit in (consumer.timeout_ms, consumer.queue.limits.consumer_timeout_ms):
        if limit is not None:
            return limit
    return view.broker.settings.limits.consumer_timeout_ms


def consumer_item(consumer: Consumer, view: PublishView) -> dict[str, Any]:
    queue = consumer.queue
    return {
        "arguments": consumer.arguments,
        "ack_required": not consumer.no_ack,
        "active": is_active(consumer),
        "activity_status": activity_status(consumer),
        "channel_details": _channel_details(consumer, view),
        "consumer_tag": consumer.tag,
        "consumer_timeout": _timeout_ms(consumer, view),
        "exclusive": consumer.is_exclusive,
        "prefetch_count": consumer.prefetch,
        "queue": {"name": queue.name, "vhost": queue.vhost.name},
    }


async def _may_enter(call: Call) -> bool:
    """The virtual host of the path: of another the list is empty, as RabbitMQ's."""
    name = call.request.match_info.get("vhost")
    if name is None or name not in call.broker.vhosts:
        return True
    return await call.context.may_enter(call.principal, name)


async def consumers(call: Call) -> Any:
    """Consumers in the virtual hosts that the user may enter: the user's own, or all for users who may see them."""
    check_stats(call)
    view = PublishView(call)
    vhosts = await call.vhosts() if await _may_enter(call) else []
    items = [
        consumer_item(consumer, view)
        for vhost in vhosts
        for _, queue in sorted(vhost.queues.items())
        for consumer in queue.consumers
    ]
    if not call.sees_all:
        items = [item for item in items if item["channel_details"]["user"] == call.principal.username]
    return await answer_list(call, items, plain_table("consumer_tag"))


ROUTES = (
    Route("GET", "/consumers", consumers),
    Route("GET", "/consumers/{vhost}", consumers),
)
