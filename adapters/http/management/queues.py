"""Queues."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leveret.adapters.http.management.bindings import BINDINGS
from leveret.adapters.http.management.consumers import consumer_item
from leveret.adapters.http.management.details import Details, iso_time
from leveret.adapters.http.management.lists import Part, PublishView, Table, answer_list
from leveret.adapters.http.management.overview import message_stats, queue_totals
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.adapters.http.rates import QUEUE
from leveret.adapters.queue_listing import consumer_capacity, effective_definition, message_numbers

if TYPE_CHECKING:
    from leveret.core.queue.queue import Queue
__all__ = ["QUEUES", "ROUTES", "find_queue"]


def _base(item: dict[str, Any], queue: Queue, view: PublishView) -> None:
    item.update(
        name=queue.name,
        vhost=queue.vhost.name,
        type=queue.type,
        durable=queue.is_durable,
        auto_delete=queue.is_auto_delete,
        exclusive=queue.is_exclusive,
        arguments=queue.arguments,
        node=view.broker.node_name,
        state="running",
    )


def _lengths(item: dict[str, Any], queue: Queue, view: PublishView) -> None:
    values = {"messages_ready": queue.message_count, "messages_unacknowledged": queue.unacked_count}
    if view.is_terse:
        if view.has_totals:
            item.update(values, messages=sum(values.values()))
        return
    details = Details(view.rates, QUEUE, view.rates.of(QUEUE, queue))
    item.update(queue_totals(values, details, view.ranges))


def _stats(item: dict[str, Any], queue: Queue, view: PublishView) -> None:
    """Not there at all before anything has happened."""
    if view.is_terse:
        return
    values = dict(zip(QUEUE.names, QUEUE.read(queue), strict=True))
    details = Details(view.rates, QUEUE, view.rates.of(QUEUE, queue))
    if stats := message_stats(values, details, view.ranges):
        item["message_stats"] = stats


def _numbers(item: dict[str, Any], queue: Queue, view: PublishView) -> None:
    if not view.is_terse:
        item.update(message_numbers(queue))


def _consumers(item: dict[str, Any], queue: Queue, view: PublishView) -> None:
    if view.is_terse:
        return
    consumers = queue.consumers
    capacity = consumer_capacity(queue)
    exclusive = consumers.exclusive
    item.update(
        consumers=len(consumers),
        consumer_capacity=capacity,
        consumer_utilisation=capacity,
        exclusive_consumer_tag=None if exclusive is None else exclusive.tag,
        single_active_consumer_tag=consumers.active.tag
        if consumers.is_single_active and consumers.active is not None
        else None,
    )


def _policies(item: dict[str, Any], queue: Queue, view: PublishView) -> None:
    if view.is_terse:
        return
    item.update(
        policy=queue.policy_name,
        operator_policy=queue.operator_policy_name,
        effective_policy_definition=effective_definition(view.broker.policies, queue),
    )
    limit = queue.limits.delivery_limit
    if limit is not None:
        item["delivery_limit"] = limit if limit >= 0 else "unlimited"


def _others(item: dict[str, Any], queue: Queue, view: PublishView) -> None:
    if view.is_terse:
        return
    # What is on the disk stays there: a look at all queues must not read a window for each.
    is_near = any(fifo.in_memory_count for fifo in queue.fifos)
    head = queue.ready.head() if is_near else None
    item["head_message_timestamp"] = None if head is None else head.envelope.properties.timestamp
    series = view.rates.of(QUEUE, queue)
    if series is not None and series.changed_ms < view.rates.now_ms:
        item["idle_since"] = iso_time(series.changed_ms)
    if queue.type == "quorum":
        node = view.broker.node_name
        item.update(leader=node, members=[node], online=[node], open_files={node: 0})
    owner = queue.owner
    if queue.is_exclusive and owner is not None:
        name = getattr(owner, "name", "")
        peer_host, peer_port = view.peer_of(name)
        item["owner_pid_details"] = {"name": name, "peer_host": peer_host, "peer_port": peer_port}


QUEUES: Table[Queue] = Table(
    (
        Part(
            frozenset({
                "name", "vhost", "type", "durable", "auto_delete", "exclusive", "arguments", "node", "state",
            }),
            _base,
        ),
        Part(
            frozenset({
                "messages", "messages_ready", "messages_unacknowledged", "messages_details", "messages_ready_details",
                "messages_unacknowledged_details",
            }),
            _lengths,
        ),
        Part(frozenset({"message_stats"}), _stats),
        Part(
            frozenset({
                "message_bytes", "message_bytes_ready", "message_bytes_ram", "message_bytes_persistent",
                "message_bytes_paged_out", "message_bytes_unacknowledged", "messages_persistent", "messages_ram", "messages_ready_ram",
                "messages_unacknowledged_ram", "messages_paged_out", "memory",
            }),
            _numbers,
        ),
        Part(
            frozenset({
                "consumers", "consumer_capacity", "consumer_utilisation", "exclusive_consumer_tag",
                "single_active_consumer_tag",
            }),
            _consumers,
        ),
        Part(frozenset({"policy", "operator_policy", "effective_policy_definition", "delivery_limit"}), _policies),
        Part(
            frozenset({
                "head_message_timestamp", "idle_since", "leader", "members", "online", "open_files", "owner_pid_details",
            }),
            _others,
        ),
    ),
    lambda queue: queue.name,
    is_paged=True,
)  # fmt: skip


async def find_queue(call: Call) -> Queue:
    """The one in the path. Raise Refusal (404, 401)."""
    queue = (await call.vhost()).queues.get(call.part("queue"))
    if queue is None:
        raise not_found()
    return queue


async def queues(call: Call) -> Any:
    """Queues of the virtual hosts that the user may enter."""
    found = [queue for vhost in await call.vhosts() for _, queue in sorted(vhost.queues.items())]
    return await answer_list(call, found, QUEUES)


async def queue(call: Call) -> dict[str, Any]:
    """One queue, with its consumers."""
    found = await find_queue(call)
    view = PublishView(call)
    item = QUEUES.item(found, view)
    item["consumer_details"] = [consumer_item(consumer, view) for consumer in found.consumers]
    item["incoming"] = []
    item["deliveries"] = []
    return item


async def queue_bindings(call: Call) -> Any:
    """The bindings of a queue, with the default exchange's; an empty list if it does not exist."""
    vhost = await call.vhost()
    found = vhost.queues.get(call.part("queue"))
    return await answer_list(call, () if found is None else vhost.bindings_to(found), BINDINGS)


ROUTES = (
    Route("GET", "/queues", queues),
    Route("GET", "/queues/detailed", queues),
    Route("GET", "/queues/{vhost}", queues),
    Route("GET", "/queues/{vhost}/{queue}", queue),
    Route("GET", "/queues/{vhost}/{queue}/bindings", queue_bindings),
)
