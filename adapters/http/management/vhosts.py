"""Virtual hosts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from leveret.adapters.http.management.details import Details
from leveret.adapters.http.management.lists import Part, PublishView, Table, answer_list
from leveret.adapters.http.management.overview import message_stats, queue_totals
from leveret.adapters.http.management.routes import Call, Route, not_found
from leveret.adapters.http.rates import BYTES, VHOST

if TYPE_CHECKING:
    from leveret.core.vhost import Vhost
__all__ = ["ROUTES", "VHOSTS", "find_vhost"]


def _base(item: dict[str, Any], vhost: Vhost, view: PublishView) -> None:
    queue_type = vhost.default_queue_type or "classic"
    item.update(
        name=vhost.name,
        description=vhost.description,
        tags=vhost.tags,
        default_queue_type=queue_type,
        protected_from_deletion=vhost.is_protected,
        metadata={
            "description": vhost.description,
            "tags": vhost.tags,
            "default_queue_type": queue_type,
        },
        tracing=vhost.tracer is not None,
        cluster_state={view.broker.node_name: "running"},
    )


def _stats(item: dict[str, Any], vhost: Vhost, view: PublishView) -> None:
    rates = view.rates
    values = dict(zip(VHOST.names, rates.vhost_values(vhost.name), strict=True))
    details = Details(rates, VHOST, rates.of_vhost(vhost.name))
    item.update(queue_totals(values, details, view.ranges))
    details.put(item, {name: values[name] for name in BYTES if values[name]}, view.ranges.data_rates)
    if stats := message_stats(values, details, view.ranges):
        item["message_stats"] = stats


VHOSTS: Table[Vhost] = Table(
    (
        Part(
            frozenset({
                "name", "description", "tags", "default_queue_type", "protected_from_deletion", "metadata", "tracing",
                "cluster_state",
            }),
            _base,
        ),
        Part(
            frozenset({
                "messages", "messages_ready", "messages_unacknowledged", "messages_details", "messages_ready_details",
                "messages_unacknowledged_details", "recv_oct", "send_oct", "recv_oct_details", "send_oct_details",
                "message_stats",
            }),
            _stats,
        ),
    ),
    lambda vhost: vhost.name,
    is_paged=True,
)  # fmt: skip


def find_vhost(call: Call) -> Vhost:
    """The one in the path, for administrators: whether they may enter it does not matter. Raise Refusal (404)."""
    vhost = call.broker.vhosts.get(call.part("vhost"))
    if vhost is None:
        raise not_found()
    return vhost


async def vhosts(call: Call) -> Any:
    """Virtual hosts: those that the user may enter, or all for users who may see them."""
    if call.sees_all:
        found = [vhost for _, vhost in sorted(call.broker.vhosts.items())]
    else:
        found = await call.vhosts()
    return await answer_list(call, found, VHOSTS)


async def vhost(call: Call) -> dict[str, Any]:
    """One virtual host."""
    return VHOSTS.item(find_vhost(call), PublishView(call))


ROUTES = (
    Route("GET", "/vhosts", vhosts),
    Route("GET", "/vhosts/{vhost}", vhost, needs="administrator"),
)
